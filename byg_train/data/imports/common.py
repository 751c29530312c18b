"""What the readers share: the records that they yield, and checks of names and captions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from ...media.formats import MEDIA
from .. import DataError, Problem
from ..captions import ENDINGS, CaptionError, Captions
from ..media_kind import found_kind
from ..names import FileNames
from ..rule_codes import EMPTY_TEXT, FILE_TYPE, NO_CAPTION, NO_FILE, REPEATS
from ..unused import Unused, unused_beside

log = logging.getLogger("byg_train")


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
    folder: Path, extension: str | None, prefix: str, usual: str | None = None, *, deep: bool = True
) -> Iterator[Found | Problem | Unused]:
    """Yield the files of a folder with the captions beside them, or else the `usual` caption.

    `extension` of the files with captions; None where nothing says it: the usual ones.
    Takes pictures or clips, whichever are more: clips may have a preview picture each. `deep`: in
    subfolders too. Files of which nothing comes are told.
    """
    kind = found_kind(folder)
    if not (found := kind.names(folder)):
        raise DataError(f"{folder} holds no pictures and no clips; wanted {MEDIA.words} files")
    names = [name for name in found if deep or "/" not in name]
    captions = Captions((f".{extension.lstrip('.')}",) if extension else ENDINGS)
    for name in names:
        path, where = folder / name, f"{prefix}{name}"
        try:
            caption = captions.read(path)
        except CaptionError as error:
            if usual is None or error.rule != NO_CAPTION:
                beside = path.with_suffix(captions.endings[0]).name
                told = f"no caption ({error.found})" if error.rule == EMPTY_TEXT else error.found
                yield Problem(where, told, f"a caption in {beside} beside it", error.rule)
                continue
            caption = usual
        yield described(Found(where, path, where, {"src_caption": caption}))
    for name in sorted(set(found) - set(names)):
        yield Unused(f"{prefix}{name}", "in a subfolder, which the other trainer does not read")
    for name, why in unused_beside(folder, found, kind):
        yield Unused(f"{prefix}{name}", why)


def described(found: Found) -> Found | Problem:
    """Pass a file on if it has a caption."""
    caption = found.fields.get("src_caption")
    if not isinstance(caption, str) or not caption.strip():
        return Problem(found.where, "no caption", "a text that describes it", NO_CAPTION)
    return found


def inside(files: FileNames, name: Any) -> Path | None:
    """Resolve a name inside a folder, as it is spelled there; None if it leads out of it."""
    if not isinstance(name, str) or not name.strip():
        return None
    base = files.root
    name = files.find(name).name or name.strip()
    if ".." in {*Path(name).parts, *PureWindowsPath(name).parts}:
        return None
    path = base / Path(name).expanduser()
    return path if path.is_relative_to(base) else None


def place(name: str, source: Path) -> Path:
    """The folder or file that a data set's configuration names; the other trainers try one place.

    A relative name counts from the configuration, or else from the working directory.
    """
    spelled = Path(name).expanduser()
    if "\\" in name and not spelled.exists():
        spelled = Path(name.replace("\\", "/")).expanduser()
    beside, here = source.parent / spelled, Path.cwd() / spelled
    if spelled.is_absolute() or not here.exists() or here.resolve() == beside.resolve():
        return beside
    taken, other = (beside, here) if beside.exists() else (here, beside)
    _tell(f"{source.name}: {name} is {taken} (and not {other})")
    return taken


@cache
def _tell(sentence: str) -> None:
    """A notice, once: a data set is read twice."""
    log.info(sentence)


def repeated(table: dict[str, Any], where: str) -> dict[str, int] | Problem:
    """The repeats of a data set, as a field of its rows."""
    number = table.get("num_repeats", 1)
    if type(number) is not int or number < 1:
        return Problem(where, f"num_repeats {number!r}", "a whole number from 1", REPEATS)
    return {"repeats": number} if number > 1 else {}


def relative(path: Path, base: Path) -> str:
    """The name of a file relative to a folder, with forward slashes."""
    return path.relative_to(base).as_posix()


def present(found: Found) -> Found | Problem:
    """Pass a file on if it can be trained on and has a caption."""
    if not found.content.is_file():
        return Problem(found.where, f"no file {found.content}", "a file of that name", NO_FILE)
    if not MEDIA.holds(found.content):
        return Problem(found.where, f"file type {found.content.suffix!r}", MEDIA.words, FILE_TYPE)
    return described(found)
