"""Training items: read, checked before any model is loaded, split into training and test.

An item is (x, src_caption, tgt_caption, instruction, reverse_instruction). Items come from a
manifest beside the files or from style folders; rows of either become items here. A picture is one
item for each of its rows, a clip one for each row and segment.
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
from typing import Any

from ..config import DataConfig
from ..media import MediaError
from ..media.reader import Facts
from . import DataError, Problem, Row, counted
from .excluded import STRUCK, without_struck
from .manifest import find_manifest
from .media_kind import MediaKind, expect_kind, kind_of
from .rows import TEXTS, check_rows, data_folder, optional, read_rows
from .segments import PICTURE, Segment, inspect_file, trained_segments
from .styles import balanced, style_folders

log = logging.getLogger("byg_train")

# How a problem begins that the linter names by itself.
BROKEN = "a broken"
# Each decodes one file at a time, so this bounds the memory too.
WORKERS = min(8, os.cpu_count() or 1)


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
    segment: Segment = PICTURE  # what is seen of the file
    target_name: str = ""  # of its true edit's file, where there are pairs
    target: Item | None = None  # the true edit, in supervised training alone (data/pairs.py)

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
    fingerprint: str  # of all files, texts and splits
    struck: int = 0  # tuples that struck.txt leaves out
    facts: dict[Path, Facts] = field(default_factory=dict)  # of the files of all items


def load_items(
    config: DataConfig, multiple: int, on_file: Callable[[int, int], None] = lambda done, of: None
) -> Dataset:
    """Read and check a data folder; raises DataError with everything that is wrong.

    Args:
        config: where, what is trained on, and what to do with items that cannot be used.
        multiple: pixels; the model's sizes are multiples of it, no file may be smaller.
        on_file: called with how many files are looked through, and of how many.
    """
    root, kind = data_folder(config.path), kind_of(config)
    expect_kind(root, config)
    manifest = find_manifest(root)
    rows, problems = read_rows(root, config.styles, kind)
    rows, problems, struck = without_struck(rows, problems, root)
    if struck:
        log.info("left out as %s says: %s of %s", root / STRUCK, struck, struck + len(rows))
    good, more = check_rows(rows, root, kind)
    facts, broken = check_files(good, kind, multiple, config, on_file)
    items = _items(good, facts, config)
    problems = [*problems, *more, *broken]
    if problems and config.on_bad_item == "stop":
        hint = "repair them, or train without them: --set data.on_bad_item=drop"
        raise DataError(f"{counted(len(problems), 'problem')} in {root} ({hint})", problems)
    train, test = split(items, config.holdout, root, styled=not manifest)
    if not train:
        but = f" ({struck} struck in {STRUCK})" if struck else ""
        raise DataError(f"{root} leaves no item to train on{but}", problems)
    if not manifest:
        expect_every_style(train, root, kind, problems)
    repeated = [item for item in train for _ in range(item.repeats)]
    train = repeated if manifest else balanced(train)
    return Dataset(train, test, problems, _fingerprint([*train, *test], root), struck, facts)


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


def expect_every_style(
    train: list[Item], root: Path, kind: MediaKind, problems: list[Problem]
) -> None:
    """A style without an item would be learned in one direction, and never from itself."""
    left = {item.path.parent for item in train}
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
        json.dumps([_name(i.path, root), i.digest, *i.texts, i.edit_type, i.split, *i.segment.told])
        for i in items
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


# ---------------------------------------------------------------- files


def checked(
    rows: Iterable[Row], root: Path, kind: MediaKind, multiple: int
) -> tuple[list[Item], list[Problem]]:
    """An item of every good row, a clip as a whole, and what is wrong with the other rows."""
    good, problems = check_rows(rows, root, kind)
    facts, found = check_files(good, kind, multiple)
    return _items(good, facts, None), problems + found


def check_files(
    rows: list[tuple[Row, Path]],
    kind: MediaKind,
    multiple: int,
    data: DataConfig | None = None,
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[dict[Path, Facts], list[Problem]]:
    """Decode every file once: what is known of the good ones, and the others.

    Args:
        rows: with the paths of their files.
        kind: of these files.
        multiple: pixels; no file may be smaller.
        data: how segments of clips are taken, which then must be long enough for one.
        on_file: called with how many files are done, and of how many.
    """
    first: dict[Path, str] = {}
    for row, path in rows:
        name = row.fields["file_name"].strip()
        first.setdefault(path, row.where if row.where == name else f"{row.where} ({name})")
    facts, problems = {}, []

    def look(path: Path) -> Facts | str:
        try:
            return inspect_file(path, kind, data)
        except MediaError as error:
            return str(error)

    with ThreadPoolExecutor(WORKERS) as pool:  # decoders release the interpreter's lock
        found_all = zip(first.items(), pool.map(look, first), strict=True)
        for done, ((path, where), found) in enumerate(found_all, 1):
            on_file(done, len(first))
            if isinstance(found, str):
                problems.append(Problem(where, f"{BROKEN} {kind.one} ({found})", "one that opens"))
            elif wrong := _unfit(found, multiple, data):
                problems.append(Problem(where, *wrong))
            else:
                facts[path] = found
    return facts, problems


def _unfit(facts: Facts, multiple: int, data: DataConfig | None) -> tuple[str, str] | None:
    """(found, wanted) of a file that opens and still cannot be used."""
    if min(facts.width, facts.height) < multiple:
        size = f"{facts.width} x {facts.height} pixels"
        return size, f"at least {multiple} on either side"
    if not trained_segments(facts, data):
        length, number = float(facts.clip.duration), facts.clip.frames_at(data.fps)
        needed = f"{data.frames} ({data.frames / data.fps:.2f} s; or a lower data.frames)"
        return f"{length:.2f} s, which is {counted(number, 'frame')} at {data.fps:g} fps", needed
    return None


def _items(
    rows: list[tuple[Row, Path]], facts: dict[Path, Facts], data: DataConfig | None
) -> list[Item]:
    items = []
    for row, path in rows:
        if found := facts.get(path):
            parts = trained_segments(found, data)
            items += [_item(row.fields, path, found, segment) for segment in parts]
    return items


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
