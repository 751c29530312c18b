"""What the readers share: the records that they yield, and checks of names and captions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ...media.formats import MEDIA
from .. import DataError, Problem
from ..media_kind import found_kind, media_names
from ..names import ENDINGS, CaptionError, Captions, FileNames
from ..rule_codes import EMPTY_TEXT, FILE_TYPE, NO_CAPTION, NO_FILE, OUTSIDE, PAIRS, REPEATS
from ..unused import Unused, unused_beside

log = logging.getLogger("byg_train")


class Imported(NamedTuple):
    """A picture or clip of another data set."""

    where: str
    content: Path | bytes
    name: str  # relative to the folder of its data set
    fields: dict[str, Any]  # under our names: src_caption, split, ...


# What a reader yields for each file.
Read = Imported | Problem | Unused


class Options(NamedTuple):
    """Settings of the readers."""

    caption_key: str | None = None  # column of captions; None takes the first usual one
    image_key: str = "image"  # column of a parquet file that holds pictures
    root: Path | None = None  # folder for the paths of a musubi JSONL; None: the file's own


def captioned(
    folder: Path, extension: str | None, prefix: str, usual: str | None = None, *, deep: bool = True
) -> Iterator[Read]:
    """Yield the files of a folder with the captions beside them, or else the `usual` caption.

    `extension` of the files with captions; None where nothing says it: the usual ones.
    Takes pictures or clips, whichever are more: clips may have a preview picture each. `deep`: in
    subfolders too. Files of which nothing comes are told.
    """
    kind = found_kind(folder)
    if not (all_names := media_names(folder, kind)):
        raise DataError(f"{folder} holds no pictures and no clips; wanted {MEDIA.words} files")
    names = [name for name in all_names if deep or "/" not in name]
    captions = Captions((f".{extension.lstrip('.')}",) if extension else ENDINGS)
    for name in names:
        path, where = folder / name, f"{prefix}{name}"
        try:
            caption = captions.read(path)
        except CaptionError as error:
            if usual is None or error.rule != NO_CAPTION:
                beside = path.with_suffix(captions.endings[0]).name
                problem = f"no caption ({error.found})" if error.rule == EMPTY_TEXT else error.found
                yield Problem(where, problem, f"a caption in {beside} beside it", error.rule)
                continue
            caption = usual
        yield described(Imported(where, path, where, {"src_caption": caption}))
    for name in sorted(set(all_names) - set(names)):
        yield Unused(f"{prefix}{name}", "in a subfolder, which the other trainer does not read")
    for name, why in unused_beside(folder, all_names, kind):
        yield Unused(f"{prefix}{name}", why)


def described(item: Imported) -> Imported | Problem:
    """Pass a file on if it has a caption."""
    caption = item.fields.get("src_caption")
    if not isinstance(caption, str) or not caption.strip():
        return Problem(item.where, "no caption", "a text that describes it", NO_CAPTION)
    return item


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


def unusable(table: dict[str, Any], where: str, control: str) -> Problem | None:
    """Why nothing of a data set can be used: it holds pairs, or its repeats are no number."""
    if named := next((key for key in table if key.startswith(control) and table[key]), None):
        found = f"{named}: pairs, whose captions are instructions"
        return Problem(where, found, "pictures or clips alone", PAIRS)
    number = table.get("num_repeats", 1)
    if type(number) is not int or number < 1:
        return Problem(where, f"num_repeats {number!r}", "a whole number from 1", REPEATS)
    return None


def repeated(table: dict[str, Any]) -> dict[str, int]:
    """The repeats of a data set, as a field of its rows."""
    number = table.get("num_repeats", 1)
    return {"repeats": number} if number > 1 else {}


def listed(
    files: FileNames, where: str, what: str, name: Any, prefix: str, fields: dict[str, Any]
) -> Imported | Problem:
    """A file that a table names as its `what`, if it can be trained on and has a caption."""
    path = None
    if isinstance(name, str) and name.strip():
        path = files.place(str(Path(files.find(name).name or name.strip()).expanduser()))
    if path is None:
        return Problem(where, f"{what} {name!r}", f"a path inside {files.root}", OUTSIDE)
    if not path.is_file():
        return Problem(where, f"no file {path}", "a file of that name", NO_FILE)
    if not MEDIA.holds(path):
        return Problem(where, f"file type {path.suffix!r}", MEDIA.words, FILE_TYPE)
    inside = path.relative_to(files.root).as_posix()
    return described(Imported(where, path, f"{prefix}{inside}", fields))
