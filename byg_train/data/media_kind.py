"""What a data set is made of: pictures or clips."""

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


class MediaKind(NamedTuple):
    """Files of one nature, and what messages call them."""

    one: str
    formats: Formats
    built_in: Path  # the texts of style folders

    @property
    def many(self) -> str:
        """The plural."""
        return f"{self.one}s"

    def holds(self, name: str | Path) -> bool:
        """Whether a file is of this kind, as far as its name tells."""
        return self.formats.holds(name)

    def names(self, root: Path) -> list[str]:
        """Every such file under a folder by its name in it, hidden ones left out."""
        found = (path for path in visible_files(root) if self.holds(path))
        return sorted(path.relative_to(root).as_posix() for path in found)


HERE = Path(__file__).parent
PICTURES = MediaKind("picture", formats.PICTURES, HERE / "styles.toml")
CLIPS = MediaKind("clip", formats.CLIPS, HERE / "styles_clips.toml")


def visible_files(root: Path) -> Iterator[Path]:
    """Files at any depth, by name; hidden ones and those in hidden folders left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def kind_of(data: DataConfig) -> MediaKind:
    """What a run trains on."""
    return PICTURES if data.frames == 1 else CLIPS


def found_kind(root: Path) -> MediaKind:
    """What a folder holds, where no preset says what is meant; clips may have a picture each."""
    found = CLIPS.names(root)
    return CLIPS if found and len(found) >= len(PICTURES.names(root)) else PICTURES


def expect_kind(root: Path, data: DataConfig) -> None:
    """Refuse a folder of the other kind than a run trains on."""
    wanted = kind_of(data)
    other = CLIPS if wanted is PICTURES else PICTURES
    if wanted.names(root) or not (found := other.names(root)):
        return
    preset = usual_family(is_video=other is CLIPS).usual.style_preset
    raise DataError(
        f"{root} holds {counted(len(found), other.one)} and no {wanted.many}, and this run trains "
        f"on {wanted.many} (data.frames {data.frames}); for {other.many} take another preset, such "
        f"as --preset {preset}, or pass a folder of {wanted.many}"
    )


def style_files(folder: Path, kind: MediaKind) -> Iterator[Path]:
    """The files of one style's folder by name, hidden ones (macOS leaves some) left out."""
    return (path for path in sorted(folder.iterdir()) if kind.holds(path))
