"""Read the rows of a data folder, of either layout, and check their names and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..media.formats import Formats
from ..text_files import is_blank, unprintable
from . import DataError, Problem, Row, counted
from .manifest import TEXTS, find_manifest, manifest_rows
from .media_kind import note_foreign
from .names import FileNames
from .rule_codes import (
    CONTROL,
    EMPTY_TEXT,
    EQUAL_CAPTIONS,
    FILE_TYPE,
    MISSING_FIELD,
    NO_FILE,
    NO_TEXT,
    OUTSIDE,
    REPEATS,
    SPLIT,
    TWICE,
)
from .styles import style_folders, style_rows

SPLITS = ("train", "test")
DIFFER = "captions that differ by the edit"
# Times per epoch of an item: each is a place in the list of the epoch.
MOST_REPEATS = 10_000

LAYOUTS = """\
1. A manifest beside the {kind.many}, one JSON object on each line:
   {root}/
     cat{kind.ending}
     metadata.jsonl   {{"file_name": "cat{kind.ending}",
                       "src_caption": "a cat on grass", "tgt_caption": "a cat on snow",
                       "instruction": "Put the cat on snow",
                       "reverse_instruction": "Put the cat on grass"}}

2. A folder for each style, two or more, with a caption beside every {kind.one}:
   {root}/
     photo/         cat{kind.ending}    cat.txt ("a cat on grass")
     3d-cartoon/    dog{kind.ending}    dog.txt ("a dog in a kitchen")

{start}s are {kind.words}."""


def layouts(root: Path | str, kind: Formats) -> str:
    """Describe the layouts that a data folder may have."""
    return LAYOUTS.format(root=root, kind=kind, start=kind.one.capitalize())


def data_folder(path: Path | None) -> Path:
    """Return the path of an existing folder; DataError otherwise."""
    if path is None:
        raise DataError("no data folder is given (data.path)")
    if not path.exists():
        raise DataError(f"data folder {path} does not exist")
    if not path.is_dir():
        raise DataError(f"{path} is a file; wanted the data folder")
    return path


def read_rows(root: Path, templates: Path | None, kind: Formats) -> tuple[list[Row], list[Problem]]:
    """Read the rows of either layout, excluded ones too, and report what could not be read."""
    note_foreign(root)
    manifest = find_manifest(root)
    if manifest is None:
        return styled_rows(root, templates, kind)
    rows, problems = manifest_rows(manifest)
    return on_disk(rows, root), problems


def on_disk(rows: list[Row], root: Path) -> list[Row]:
    """Rows with their files' names as these are spelled on disk."""
    files = FileNames(root)

    def spelled(fields: dict[str, Any]) -> dict[str, Any]:
        named = {field: fields.get(field) for field in ("file_name", "target_file_name")}
        texts = {field: name for field, name in named.items() if isinstance(name, str)}
        return {**fields, **{f: files.find(name).name or name for f, name in texts.items()}}

    return [row._replace(fields=spelled(row.fields)) for row in rows]


def styled_rows(
    root: Path, templates: Path | None, kind: Formats, caption: str | None = None
) -> tuple[list[Row], list[Problem]]:
    """Make the rows of style folders; DataError unless there are at least two.

    `caption` replaces missing captions.
    """
    folders, problems = style_folders(root, kind)
    if len(folders) < 2:
        found = _contents(root, folders, kind)
        raise DataError(
            f"{root} has neither of the two layouts that can be trained on ({found}).\n\n"
            f"{layouts(root, kind)}",
            problems,
        )
    rows, more = style_rows(root, folders, templates, kind, caption)
    return rows, [*problems, *more]


def _contents(root: Path, folders: list[Path], kind: Formats) -> str:
    files = [path for path in root.iterdir() if not path.name.startswith(".")]
    if not files:
        return "it is empty"
    loose = sum(path.is_file() and kind.holds(path) for path in files)
    styles = f": {folders[0].name}" if folders else ""
    return (
        f"found {counted(len(folders), 'folder')} with {kind.many}{styles}, "
        f"{counted(loose, kind.one)} outside folders and no metadata.jsonl"
    )


# ---------------------------------------------------------------- checking


def check_rows(
    rows: Iterable[Row], root: Path, kind: Formats
) -> tuple[list[tuple[Row, Path]], list[Problem]]:
    """Return the rows whose names and texts can be used, and what is wrong with the others."""
    good: list[tuple[Row, Path]] = []
    problems: list[Problem] = []
    seen: dict[tuple[Path, str], str] = {}
    files = FileNames(root)
    for row in rows:
        path, found = _check_fields(row, files, kind)
        if path and not found:
            key = (path, row.fields["instruction"].strip())
            if key in seen:
                twice = f"file and instruction of {seen[key]} again"
                found = [Problem(row.where, twice, "every instruction once", TWICE)]
            seen.setdefault(key, row.where)
        problems += found
        if path and not found:
            good.append((row, path))
    return good, problems


def _check_fields(row: Row, files: FileNames, kind: Formats) -> tuple[Path | None, list[Problem]]:
    """Return the file's path if it exists, and what is wrong with names and texts."""
    problems: list[Problem] = []

    def complain(found: str, wanted: str, rule: str) -> None:
        problems.append(Problem(row.where, found, wanted, rule))

    # A pair needs no more than its instruction (data/pairs.py).
    needed = ("instruction",) if optional(row.fields, "target_file_name") else TEXTS
    fields = {name: row.fields.get(name) for name in ("file_name", *needed)}
    texts = {name: value.strip() for name, value in fields.items() if isinstance(value, str)}
    if missing := [name for name, value in fields.items() if value is None]:
        complain(f"no {', '.join(missing)}", f"all of {', '.join(fields)}", MISSING_FIELD)
    for name in (n for n, value in fields.items() if n not in texts and value is not None):
        complain(f"{name} is {fields[name]!r}", "a text", NO_TEXT)
    if empty := [name for name, text in texts.items() if is_blank(text)]:
        complain(f"empty {', '.join(empty)}", "a text", EMPTY_TEXT)
    for name, text in texts.items():
        if name not in empty and (strange := unprintable(text)):
            complain(f"{name} has the character {strange}", "a text without it", CONTROL)
    if equal_captions(*(texts.get(name, "") for name in TEXTS[:2])):
        complain(f"equal captions {texts['src_caption']!r}", DIFFER, EQUAL_CAPTIONS)
    if (part := optional(row.fields, "split") or "train") not in SPLITS:
        complain(f"split {part!r}", " or ".join(SPLITS), SPLIT)
    times = row.fields.get("repeats")
    if times is not None and (type(times) is not int or not 1 <= times <= MOST_REPEATS):
        complain(f"repeats {times!r}", f"a whole number from 1 to {MOST_REPEATS}", REPEATS)
    name = fields["file_name"] if texts.get("file_name") else None
    return (_check_path(name, files, kind, complain) if name else None), problems


def equal_captions(source: str, target: str) -> bool:
    """Whether two captions say the same, so that the base sees no direction between them."""
    source, target = (" ".join(text.split()).casefold() for text in (source, target))
    return bool(source) and source == target


def _check_path(
    name: str, files: FileNames, kind: Formats, complain: Callable[[str, str, str], None]
) -> Path | None:
    if files.place(name) is None:
        found = f"file_name {name!r} leads out of the data folder"
        return complain(found, "a path inside it", OUTSIDE)
    there, instead = files.find(name)
    path = files.root / (there or name)
    if not (kind.holds(path) if there else kind.may_name(path)):
        return complain(f"file type {path.suffix!r} of {name}", kind.words, FILE_TYPE)
    if not there:
        return complain(f"no file {name}{instead}", f"a {kind.one} of that name", NO_FILE)
    return path


def optional(fields: dict[str, Any], name: str) -> str:
    """The text of a field, or "" if it is missing."""
    return str(fields.get(name) or "").strip()
