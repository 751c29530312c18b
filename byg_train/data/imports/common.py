"""What the readers share: the records that they yield, and checks of names and captions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from ...media.formats import CLIPS, MEDIA, PICTURES
from .. import DataError, Problem

# Rule code: a path leads out of the folder that a data set may refer to.
OUTSIDE = "outside of the folder"


class Found(NamedTuple):
    """A picture or clip of another data set."""

    where: str
    content: Path | bytes
    name: str  # relative to the folder of its data set
    fields: dict[str, Any]  # under our names: src_caption, split, ...


class Options(NamedTuple):
    """Settings of the readers."""

    caption_key: str | None = None  # column of captions; None takes the first usual one
    image_key: str = "image"  # column of a parquet file that holds pictures
    root: Path | None = None  # folder for the paths of a musubi JSONL; None: the file's own


def captioned(
    folder: Path, names: Iterable[Path], extension: str, prefix: str, usual: str | None = None
) -> Iterator[Found | Problem]:
    """Yield the files of a folder with the captions beside them, or else the `usual` caption.

    Takes pictures or clips, whichever are more: clips may have a preview picture each.
    """
    seen = sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
    pictures, clips = (
        [name for name in seen if sort.holds(folder / name)] for sort in (PICTURES, CLIPS)
    )
    if not pictures and not clips:
        raise DataError(f"{folder} holds no pictures and no clips; wanted {MEDIA.words} files")
    for name in pictures if len(pictures) > len(clips) else clips:
        path, where = folder / name, f"{prefix}{name.as_posix()}"
        beside = path.with_suffix(f".{extension.lstrip('.')}")
        try:
            caption = " ".join(beside.read_text(encoding="utf-8-sig").split())
        except FileNotFoundError:
            caption = usual
        except UnicodeDecodeError:
            yield Problem(where, f"{beside.name} is not UTF-8", "a caption in UTF-8")
            continue
        if caption is None:
            yield Problem(where, "no caption", f"a caption in {beside.name} beside it")
            continue
        yield described(Found(where, path, where, {"src_caption": caption}))


def described(found: Found) -> Found | Problem:
    """Pass a file on if it has a caption."""
    caption = found.fields.get("src_caption")
    if not isinstance(caption, str) or not caption.strip():
        return Problem(found.where, "no caption", "a text that describes it")
    return found


def inside(base: Path, name: Any) -> Path | None:
    """Resolve a name inside a folder; None if it leads out of it."""
    if not isinstance(name, str) or not name.strip():
        return None
    name = name.strip()
    if ".." in {*Path(name).parts, *PureWindowsPath(name).parts}:
        return None
    path = base / Path(name).expanduser()
    return path if path.is_relative_to(base) else None


def relative(path: Path, base: Path) -> str:
    """The name of a file relative to a folder, with forward slashes."""
    return path.relative_to(base).as_posix()


def present(found: Found) -> Found | Problem:
    """Pass a file on if it can be trained on and has a caption."""
    if not found.content.is_file():
        return Problem(found.where, f"no file {found.content}", "a file of that name")
    if not MEDIA.holds(found.content):
        return Problem(found.where, f"file type {found.content.suffix!r}", MEDIA.words)
    return described(found)
