"""Training items: read and checked before any model is loaded, split into training and test.

An item is (x, src_caption, tgt_caption, instruction, reverse_instruction). Items come from a
manifest beside the files or from style folders; rows of either become items here. A picture is one
item for each of its rows, a clip one item for each row and segment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import DataConfig
from ..media import MediaError
from ..media.formats import Formats
from ..media.reader import Facts
from . import DataError, Problem, Row, counted
from .excluded import EXCLUDED, drop_excluded
from .manifest import find_manifest
from .media_kind import expect_kind, kind_of, style_folder
from .rows import TEXTS, check_rows, data_folder, optional, read_rows
from .rule_codes import TOO_SHORT, TOO_SMALL, UNREADABLE
from .segments import PICTURE, Segment, inspect_file, trained_segments
from .styles import style_folders
from .unused import Unused, by_reason, told, unused_files

log = logging.getLogger("byg_train")

# Each thread decodes one file at a time, so this also bounds the memory.
WORKERS = min(8, os.cpu_count() or 1)
# Of so many files one may be held out, but at least one.
ONE_IN = 5


@dataclass(frozen=True, kw_only=True)
class Item:
    """One training tuple (Algorithm 1, line 2); sizes are those of the upright file."""

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
    digest: str  # sha256 of the file's bytes
    segment: Segment = PICTURE  # the frames of a clip that are used
    target_name: str = ""  # file of the true edit, in data sets of pairs
    target: Item | None = None  # the true edit, only in supervised training (data/pairs.py)

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """The texts that are embedded."""
        return self.src_caption, self.tgt_caption, self.instruction, self.reverse_instruction


@dataclass(frozen=True)
class Dataset:
    """The items that a run trains on and validates with.

    In style folders, items of rarer directions appear in `train` more than once, so that an epoch
    sees every direction equally often; with `repeats`, of a manifest or of folders' names, they
    appear so many times.
    """

    train: list[Item]
    test: list[Item]
    problems: list[Problem]
    fingerprint: str  # of all files, texts and splits
    excluded: int = 0  # tuples that excluded.txt leaves out
    facts: dict[Path, Facts] = field(default_factory=dict)  # of the files of all items
    unused: list[Unused] = field(default_factory=list)  # files that nothing is made of


def load_items(
    config: DataConfig, multiple: int, on_file: Callable[[int, int], None] = lambda done, of: None
) -> Dataset:
    """Read and check a data folder; raises DataError with everything that is wrong.

    Args:
        config: the folder, what is trained on, and what happens to items that cannot be used.
        multiple: pixels; the model's sizes are multiples of it, no file may be smaller.
        on_file: called after every file with (files checked so far, files in total).
    """
    root, kind = data_folder(config.path), kind_of(config)
    expect_kind(root, config)
    rows, problems = read_rows(root, config.styles, kind)
    rows, problems, excluded = drop_excluded(rows, problems, root)
    if excluded:
        log.info("%s leaves out %s of %s tuples", root / EXCLUDED, excluded, excluded + len(rows))
    unused = unused_files(root, rows, kind, problems)
    for why, names in by_reason(unused).items():
        log.warning("not used: %s, %s", told(names), why)
    checked = check_items(rows, root, kind, multiple, config, on_file)
    problems = [*problems, *checked.problems]
    if problems and config.on_bad_item == "stop":
        hint = "repair them, or train without them: data.on_bad_item=drop"
        raise DataError(f"{counted(len(problems), 'problem')} in {root} ({hint})", problems)
    styled = find_manifest(root) is None
    train, test = split(checked.items, config.holdout, root, styled=styled)
    if not train:
        but = f" ({excluded} excluded by {EXCLUDED})" if excluded else ""
        raise DataError(f"{root} leaves no item to train on{but}", problems)
    if styled:
        expect_every_style(train, root, kind, problems)
    # Where folders say their repeats, as kohya's do, these are meant.
    if styled and all(item.repeats == 1 for item in train):
        train = balanced(train, root)
    else:
        train = [item for item in train for _ in range(item.repeats)]
    fingerprint = _fingerprint([*train, *test], root)
    return Dataset(train, test, problems, fingerprint, excluded, checked.facts, unused)


def split(
    items: list[Item], holdout: int, root: Path, *, styled: bool = False
) -> tuple[list[Item], list[Item]]:
    """Return (train, test): as marked, else whole files are held out to fill `holdout` items.

    The choice depends on file names alone, so adding or changing one file moves no other. At most
    one file in ONE_IN is held out, and at least one stays for training, in every style
    folder if the folders are styles.
    """
    test = {item.path for item in items if item.split == "test"}
    if test:
        marked = [item for item in items if item.split == "test"]
        return [item for item in items if item.split == "train"], marked
    count: dict[Path, int] = {}
    for item in items:
        count[item.path] = count.get(item.path, 0) + 1
    order = sorted(count, key=lambda path: hashlib.sha256(_name(path, root).encode()).hexdigest())
    group_of = {path: style_folder(path, root) if styled else root for path in order}
    left = Counter(group_of.values())
    most = max(1, len(order) // ONE_IN)
    while order and len(test) < most and sum(count[path] for path in test) < holdout:
        path = order.pop()
        group = group_of[path]
        if left[group] > 1:
            left[group] -= 1
            test.add(path)
    held_out = [replace(item, split="test") for item in items if item.path in test]
    if len(held_out) < holdout and len(test) == most and order:
        much = f"holdout {holdout} would take more than a fifth of {counted(len(count), 'file')}"
        log.warning("%s away from training: held out is %s", much, len(test))
    return [item for item in items if item.path not in test], held_out


def balanced(items: list[Item], root: Path) -> list[Item]:
    """Repeat the items of rarer directions evenly until all directions are equally frequent."""
    directions: dict[tuple[Path, str], list[Item]] = {}
    for item in items:
        direction = style_folder(item.path, root), item.instruction
        directions.setdefault(direction, []).append(item)
    most = max(map(len, directions.values()), default=0)
    return [own[i % len(own)] for own in directions.values() for i in range(most)]


def expect_every_style(
    train: list[Item], root: Path, kind: Formats, problems: list[Problem]
) -> None:
    """Raise DataError if a style has no training item: it could only be learned as a target."""
    left = {style_folder(item.path, root) for item in train}
    if bare := [folder.name for folder in style_folders(root, kind)[0] if folder not in left]:
        raise DataError(
            f"{root} leaves no {kind.one} to train on in {', '.join(bare)}; "
            "put usable ones there, or take the folder away",
            problems,
        )


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _fingerprint(items: list[Item], root: Path) -> str:
    lines = sorted(
        json.dumps([_name(i.path, root), i.digest, *i.texts, i.edit_type, i.split, *i.segment.key])
        for i in items
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


# ---------------------------------------------------------------- files


class CheckedItems(NamedTuple):
    """The items of all usable rows, and what is wrong with the other rows."""

    items: list[Item]
    facts: dict[Path, Facts]  # of the files of all items
    problems: list[Problem]


def check_items(
    rows: Iterable[Row],
    root: Path,
    kind: Formats,
    multiple: int,
    data: DataConfig | None = None,
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> CheckedItems:
    """Make items of all rows whose texts and files can be used; arguments as `check_files`.

    With `data`, a clip becomes an item for each of its segments; without, one item as a whole.
    """
    good, problems = check_rows(rows, root, kind)
    facts, broken = check_files(good, kind, multiple, data, on_file)
    items = []
    for row, path in good:
        if fact := facts.get(path):
            parts = trained_segments(fact, data)
            items += [_item(row.fields, path, fact, part) for part in parts]
    return CheckedItems(items, facts, [*problems, *broken])


def check_files(
    rows: list[tuple[Row, Path]],
    kind: Formats,
    multiple: int,
    data: DataConfig | None = None,
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[dict[Path, Facts], list[Problem]]:
    """Decode every file once; returns the facts of usable files, and a problem for each other.

    Args:
        multiple: pixels; no file may be smaller.
        data: how segments are cut from clips; each clip must then be long enough for one.
        on_file: called after every file with (files checked so far, files in total).
    """
    first_use: dict[Path, str] = {}
    for row, path in rows:
        name = row.fields["file_name"]
        first_use.setdefault(path, row.where if row.where == name else f"{row.where} ({name})")
    facts, problems = {}, []

    def decode(path: Path) -> Facts | str:
        try:
            return inspect_file(path, kind, data)
        except MediaError as error:
            return str(error)

    with ThreadPoolExecutor(WORKERS) as pool:  # decoders release the interpreter's lock
        decoded = zip(first_use.items(), pool.map(decode, first_use), strict=True)
        for done, ((path, where), found) in enumerate(decoded, 1):
            on_file(done, len(first_use))
            if isinstance(found, str):
                broken = f"a broken {kind.one} ({found})"
                problems.append(Problem(where, broken, "one that opens", UNREADABLE))
            elif wrong := _unfit(found, multiple, data):
                problems.append(Problem(where, *wrong))
            else:
                facts[path] = found
    return facts, problems


def _unfit(facts: Facts, multiple: int, data: DataConfig | None) -> tuple[str, str, str] | None:
    """Return (found, wanted, rule) for a file that opens but cannot be used, else None."""
    if min(facts.width, facts.height) < multiple:
        size = f"{facts.width} x {facts.height} pixels"
        return size, f"at least {multiple} on either side", TOO_SMALL
    if not trained_segments(facts, data):
        length, number = float(facts.clip.duration), facts.clip.frames_at(data.fps)
        needed = f"{data.frames} ({data.frames / data.fps:.2f} s; or a lower data.frames)"
        found = f"{length:.2f} s, which is {counted(number, 'frame')} at {data.fps:g} fps"
        return found, needed, TOO_SHORT
    return None


def _item(fields: dict[str, Any], path: Path, facts: Facts, segment: Segment) -> Item:
    return Item(
        path=path,
        **{name: optional(fields, name) for name in TEXTS},
        edit_type=optional(fields, "edit_type"),
        split=optional(fields, "split") or "train",
        repeats=fields.get("repeats") or 1,
        width=facts.width,
        height=facts.height,
        digest=facts.digest,
        segment=segment,
        target_name=optional(fields, "target_file_name"),
    )
