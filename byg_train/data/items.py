"""Training items: read, checked before any model is loaded, split into training and test.

An item is (x, src_caption, tgt_caption, instruction, reverse_instruction). Items come from a
manifest beside the pictures or from style folders; rows of either become items here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from ..config import DataConfig
from . import DataError, Problem, Row
from .manifest import find_manifest, manifest_rows
from .pictures import KINDS, SUFFIXES, Facts, PictureError, inspect
from .struck import STRUCK, without_struck
from .styles import balanced, style_folders, style_rows

log = logging.getLogger("byg_train")

TEXTS = ("src_caption", "tgt_caption", "instruction", "reverse_instruction")
SPLITS = ("train", "test")
# How a problem begins that a check names by itself.
EQUAL, BROKEN = "equal captions", "a broken picture"
# Each decodes one picture at a time, so this bounds the memory too.
WORKERS = min(8, os.cpu_count() or 1)

LAYOUTS = """\
{root} has neither of the two layouts that can be trained on ({found}).

1. A manifest beside the pictures, one JSON object on each line:
   {root}/
     cat.png
     metadata.jsonl   {{"file_name": "cat.png",
                       "src_caption": "a cat on grass", "tgt_caption": "a cat on snow",
                       "instruction": "Put the cat on snow",
                       "reverse_instruction": "Put the cat on grass"}}

2. A folder for each style, two or more, with a caption beside every picture:
   {root}/
     photo/         cat.jpg    cat.txt ("a cat on grass")
     3d-cartoon/    dog.png    dog.txt ("a dog in a kitchen")

Pictures are {kinds}."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One training tuple (Algorithm 1, line 2); `width` and `height` are the upright picture's."""

    path: Path
    src_caption: str
    tgt_caption: str
    instruction: str
    reverse_instruction: str
    edit_type: str = ""
    split: str = "train"
    repeats: int = 1  # times per epoch
    width: int
    height: int
    digest: str  # sha256 of the picture file's bytes

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """All that is embedded."""
        return self.src_caption, self.tgt_caption, self.instruction, self.reverse_instruction


@dataclass(frozen=True)
class Dataset:
    """What a run trains on and looks at.

    From style folders, items of rarer directions stand in `train` more than once, so that an epoch
    sees every direction equally often; from a manifest, as often as their `repeats` say.
    """

    train: list[Item]
    test: list[Item]
    problems: list[Problem]
    fingerprint: str  # of all pictures, texts and splits
    struck: int = 0  # tuples that struck.txt leaves out


def load_items(config: DataConfig, multiple: int) -> Dataset:
    """Read and check a data folder; raises DataError with everything that is wrong.

    Args:
        config: where, and what to do with items that cannot be used.
        multiple: pixels; the model's sizes are multiples of it, no picture may be smaller.
    """
    root = data_folder(config.path)
    manifest = find_manifest(root)
    rows, problems = read_rows(root, config.styles)
    rows, problems, struck = without_struck(rows, problems, root)
    if struck:
        log.info("left out as %s says: %s of %s", root / STRUCK, struck, struck + len(rows))
    items, more = checked(rows, root, multiple)
    problems = [*problems, *more]
    if problems and config.on_bad_item == "stop":
        hint = "repair them, or train without them: --set data.on_bad_item=drop"
        raise DataError(f"{_count(len(problems), 'problem')} in {root} ({hint})", problems)
    train, test = split(items, config.holdout, root, styled=not manifest)
    if not train:
        but = f" ({struck} struck in {STRUCK})" if struck else ""
        raise DataError(f"{root} leaves no item to train on{but}", problems)
    if not manifest:
        expect_every_style(train, root, problems)
    repeated = [item for item in train for _ in range(item.repeats)]
    train = repeated if manifest else balanced(train)
    return Dataset(train, test, problems, _fingerprint([*train, *test], root), struck)


def split(
    items: list[Item], holdout: int, root: Path, *, styled: bool = False
) -> tuple[list[Item], list[Item]]:
    """(train, test): as marked, or else by holding out whole pictures until `holdout` items are.

    Which ones depends on their names alone, so a picture that is added or changed moves no other,
    and at least one picture stays: of each folder, where folders are styles.
    """
    test = {item.path for item in items if item.split == "test"}
    if test:
        marked = [item for item in items if item.split == "test"]
        return [item for item in items if item.split == "train"], marked
    count: dict[Path, int] = {}
    for item in items:
        count[item.path] = count.get(item.path, 0) + 1
    order = sorted(count, key=lambda path: hashlib.sha256(_name(path, root).encode()).hexdigest())
    left = Counter(path.parent if styled else root for path in order)
    while order and sum(count[path] for path in test) < holdout:
        path = order.pop()
        group = path.parent if styled else root
        if left[group] > 1:
            left[group] -= 1
            test.add(path)
    held_out = [replace(item, split="test") for item in items if item.path in test]
    return [item for item in items if item.path not in test], held_out


def expect_every_style(train: list[Item], root: Path, problems: list[Problem]) -> None:
    """A style without a picture would be learned in one direction, and never from itself."""
    left = {item.path.parent for item in train}
    if bare := [folder.name for folder in style_folders(root)[0] if folder not in left]:
        raise DataError(
            f"{root} leaves no picture to train on in {', '.join(bare)}; "
            "put usable ones there, or take the folder away",
            problems,
        )


# ---------------------------------------------------------------- finding


def data_folder(path: Path | None) -> Path:
    """The folder that is meant, which is there; DataError otherwise."""
    if path is None:
        raise DataError("no data folder is given; pass --data DIR")
    if not path.exists():
        raise DataError(f"data folder {path} does not exist")
    if not path.is_dir():
        raise DataError(f"{path} is a file; wanted the folder that holds the pictures")
    return path


def read_rows(root: Path, templates: Path | None) -> tuple[list[Row], list[Problem]]:
    """The rows of either layout, struck ones too, and what could not be read."""
    manifest = find_manifest(root)
    return manifest_rows(manifest) if manifest else styled_rows(root, templates)


def styled_rows(
    root: Path, templates: Path | None, caption: str | None = None
) -> tuple[list[Row], list[Problem]]:
    """The rows of style folders; DataError where there are not two of them.

    `caption` stands in for those that are missing.
    """
    folders, problems = style_folders(root)
    if len(folders) < 2:
        found = _contents(root, folders)
        raise DataError(LAYOUTS.format(root=root, found=found, kinds=KINDS), problems)
    rows, more = style_rows(root, folders, templates, caption)
    return rows, [*problems, *more]


def _contents(root: Path, folders: list[Path]) -> str:
    names = [path.name for path in root.iterdir() if not path.name.startswith(".")]
    if not names:
        return "it is empty"
    loose = sum(name.lower().endswith(SUFFIXES) for name in names)
    styles = f": {folders[0].name}" if folders else ""
    return (
        f"found {_count(len(folders), 'folder')} with pictures{styles}, {_count(loose, 'picture')} "
        f"outside folders and no metadata.jsonl"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _fingerprint(items: list[Item], root: Path) -> str:
    lines = sorted(
        json.dumps([_name(i.path, root), i.digest, *i.texts, i.edit_type, i.split]) for i in items
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


# ---------------------------------------------------------------- checking


def checked(rows: Iterable[Row], root: Path, multiple: int) -> tuple[list[Item], list[Problem]]:
    """The items of rows, and everything that is wrong with the others."""
    good, problems = check_rows(rows, root)
    facts, found = check_pictures(good, multiple)
    items = [_item(row.fields, path, facts[path]) for row, path in good if path in facts]
    return items, problems + found


def check_rows(rows: Iterable[Row], root: Path) -> tuple[list[tuple[Row, Path]], list[Problem]]:
    """The rows whose names and texts can be used, and what is wrong with the others."""
    good: list[tuple[Row, Path]] = []
    problems: list[Problem] = []
    seen: dict[tuple[Path, str], str] = {}
    for row in rows:
        path, found = _check_fields(row, root)
        if path and not found:
            key = (path, row.fields["instruction"].strip())
            if key in seen:
                twice = f"file and instruction of {seen[key]} again"
                found = [Problem(row.where, twice, "every instruction once")]
            seen.setdefault(key, row.where)
        problems += found
        if path and not found:
            good.append((row, path))
    return good, problems


def _check_fields(row: Row, root: Path) -> tuple[Path | None, list[Problem]]:
    """The picture's path if it is there, and what is wrong with names and texts."""
    problems: list[Problem] = []

    def complain(found: str, wanted: str) -> None:
        problems.append(Problem(row.where, found, wanted))

    fields = {name: row.fields.get(name) for name in ("file_name", *TEXTS)}
    texts = {name: value.strip() for name, value in fields.items() if isinstance(value, str)}
    if missing := [name for name, value in fields.items() if value is None]:
        complain(f"no {', '.join(missing)}", f"all of {', '.join(fields)}")
    for name in (n for n, value in fields.items() if n not in texts and value is not None):
        complain(f"{name} is {fields[name]!r}", "a text")
    if empty := [name for name, text in texts.items() if not text]:
        complain(f"empty {', '.join(empty)}", "a text")
    source, target = (" ".join(texts.get(name, "").split()).casefold() for name in TEXTS[:2])
    if source and source == target:
        complain(f"{EQUAL} {texts['src_caption']!r}", "captions that differ by the edit")
    if (part := _optional(row.fields, "split") or "train") not in SPLITS:
        complain(f"split {part!r}", " or ".join(SPLITS))
    times = row.fields.get("repeats")
    if times is not None and (type(times) is not int or times < 1):
        complain(f"repeats {times!r}", "a whole number from 1")
    name = texts.get("file_name")
    return (_check_path(name, root, complain) if name else None), problems


def _check_path(name: str, root: Path, complain: Callable[[str, str], None]) -> Path | None:
    base = root.resolve()
    parts = {*Path(name).parts, *PureWindowsPath(name).parts}
    if ".." in parts or not (base / name).is_relative_to(base):
        return complain(f"file_name {name!r} leads out of the data folder", "a path inside it")
    path = root / (base / name).relative_to(base)
    if path.suffix.lower() not in SUFFIXES:
        return complain(f"file type {path.suffix!r} of {name}", KINDS)
    if not path.is_file():
        return complain(f"no file {name}", "a picture of that name")
    return path


def check_pictures(
    rows: list[tuple[Row, Path]], multiple: int, on_picture: Callable[[], None] = lambda: None
) -> tuple[dict[Path, Facts], list[Problem]]:
    """Decode every picture once: what is known of the good ones, and the others."""
    first: dict[Path, str] = {}
    for row, path in rows:
        name = row.fields["file_name"].strip()
        first.setdefault(path, row.where if row.where == name else f"{row.where} ({name})")
    facts, problems = {}, []
    with ThreadPoolExecutor(WORKERS) as pool:  # decoders release the interpreter's lock
        for (path, where), found in zip(first.items(), pool.map(_inspected, first), strict=True):
            on_picture()
            if isinstance(found, str):
                problems.append(Problem(where, f"{BROKEN} ({found})", "one that opens"))
            elif min(found.width, found.height) < multiple:
                size = f"{found.width} x {found.height} pixels"
                problems.append(Problem(where, size, f"at least {multiple} on either side"))
            else:
                facts[path] = found
    return facts, problems


def _inspected(path: Path) -> Facts | str:
    try:
        return inspect(path)
    except PictureError as error:
        return str(error)


def _optional(fields: dict[str, Any], name: str) -> str:
    return str(fields.get(name) or "").strip()


def _item(fields: dict[str, Any], path: Path, facts: Facts) -> Item:
    return Item(
        path=path,
        **{name: fields[name].strip() for name in TEXTS},
        edit_type=_optional(fields, "edit_type"),
        split=_optional(fields, "split") or "train",
        repeats=fields.get("repeats") or 1,
        width=facts.width,
        height=facts.height,
        digest=facts.digest,
    )
