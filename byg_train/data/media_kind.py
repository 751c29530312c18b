"""The two kinds of media that a data set can hold: pictures or clips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import DataConfig
from ..family import usual_family
from ..media import formats
from ..media.formats import Formats
from . import DataError, counted
from .foreign import foreign_file, foreign_folder


class MediaKind(NamedTuple):
    """Pictures or clips: their files, and what messages call them."""

    one: str
    formats: Formats
    built_in: Path  # the built-in templates of style folders

    @property
    def many(self) -> str:
        """The plural of `one`."""
        return f"{self.one}s"

    def holds(self, path: Path) -> bool:
        """Whether a file is of this kind, by its content."""
        return self.formats.holds(path)

    def names(self, root: Path) -> list[str]:
        """Names of all such files under a folder, relative to it, without hidden ones."""
        found = (path for path in visible_files(root) if self.holds(path))
        return sorted(path.relative_to(root).as_posix() for path in found)


HERE = Path(__file__).parent
PICTURES = MediaKind("picture", formats.PICTURES, HERE / "styles.toml")
CLIPS = MediaKind("clip", formats.CLIPS, HERE / "styles_clips.toml")


def visible_files(root: Path) -> Iterator[Path]:
    """Yield files at any depth in order of their names, without hidden and foreign ones.

    Folders that are links are walked too, each folder once.
    """
    walked = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in walked:
            folders.clear()
            continue
        walked.add(place)
        folders[:] = sorted(name for name in folders if not foreign_folder(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(files) if not foreign_file(name))


def kind_of(data: DataConfig) -> MediaKind:
    """The kind of media that a run trains on."""
    return PICTURES if data.frames == 1 else CLIPS


def found_kind(root: Path) -> MediaKind:
    """The kind of media that a folder holds; clips may have a preview picture each."""
    found = CLIPS.names(root)
    return CLIPS if found and len(found) >= len(PICTURES.names(root)) else PICTURES


def expect_kind(root: Path, data: DataConfig) -> None:
    """Raise DataError for a folder that holds only the other kind of media."""
    wanted = kind_of(data)
    other = CLIPS if wanted is PICTURES else PICTURES
    if wanted.names(root) or not (found := other.names(root)):
        return
    preset = usual_family(is_video=other is CLIPS).usual.style_preset
    raise DataError(
        f"{root} holds {counted(len(found), other.one)} and no {wanted.many}, and this run trains "
        f"on {wanted.many} (data.frames {data.frames}); for {other.many} take another preset, such "
        f"as {preset}, or pass a folder of {wanted.many}"
    )


def style_files(folder: Path, kind: MediaKind) -> Iterator[Path]:
    """Yield the files of a style folder, at any depth, in order of their names."""
    return (path for path in visible_files(folder) if kind.holds(path))


def style_folder(path: Path, root: Path) -> Path:
    """The style folder that a file lies in, at whatever depth."""
    return root / path.relative_to(root).parts[0]
