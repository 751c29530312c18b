"""`data styles`: style folders -> metadata.jsonl, the same tuples that training makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ..data import DataError, Problem, counted
from ..data.excluded import drop_excluded
from ..data.items import Item, balanced, check_items, expect_every_style, split
from ..data.manifest import NAMES, find_manifest, write_manifest
from ..data.media_kind import MediaKind, found_kind
from ..data.rows import data_folder, styled_rows
from ..data.styles import OWN


@dataclass(frozen=True)
class StylesFlags:
    """The options of `data styles`."""

    root: Path
    templates: Path | None
    caption: str | None
    holdout: int
    drop: bool
    force: bool


def run_styles(flags: StylesFlags) -> None:
    """Write the manifest, or refuse with everything that cannot become a tuple."""
    root = data_folder(flags.root)
    manifest = find_manifest(root)
    if manifest and not (flags.force and manifest.name == NAMES[0]):
        raise DataError(
            f"{manifest} is already there; --force replaces a {NAMES[0]} (it is kept as .bak)"
        )
    kind = found_kind(root)
    rows, problems = styled_rows(root, flags.templates, kind, flags.caption)
    rows, problems, excluded = drop_excluded(rows, problems, root)
    items, _, more = check_items(rows, root, kind, multiple=1)
    problems = [*problems, *more]
    if problems and not flags.drop:
        number = counted(len(problems), "problem")
        raise DataError(f"{number} in {root} ({_hint(problems, kind)})", problems)
    train, test = split(items, flags.holdout, root, styled=True)
    expect_every_style(train, root, kind, problems)
    times = Counter(id(item) for item in balanced(train))
    write_manifest(root, [_fields(item, root, times[id(item)]) for item in (*train, *test)])
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    Console().print(_table(train, times, kind))
    typer.echo(
        f"{counted(len(train), 'tuple')} to train on and {len(test)} held out, in {root / NAMES[0]}"
        + (f"; {excluded} excluded" if excluded else "")
    )
    if not flags.templates and not (root / OWN).is_file():
        typer.echo(f"For other words, copy {kind.built_in} to {root / OWN} and change it there.")


def _hint(problems: list[Problem], kind: MediaKind) -> str:
    hint = "repair them, or leave them out with --drop"
    lacking = sum(problem.found == "no caption" for problem in problems)
    stand_in = f'; --caption "a {kind.one}" stands in for {counted(lacking, "caption")}'
    return hint + stand_in if lacking else hint


def _fields(item: Item, root: Path, times: int) -> dict:
    return {
        "file_name": item.path.relative_to(root).as_posix(),
        "src_caption": item.src_caption,
        "tgt_caption": item.tgt_caption,
        "instruction": item.instruction,
        "reverse_instruction": item.reverse_instruction,
        "edit_type": item.edit_type,
        "split": item.split,
        "repeats": times if times > 1 else None,
    }


def _table(train: list[Item], times: Counter[int], kind: MediaKind) -> Table:
    """Every direction: how many files, how often in an epoch."""
    table = Table("from", "instruction", kind.many, "per epoch")
    files: Counter[tuple[str, str]] = Counter()
    turns: Counter[tuple[str, str]] = Counter()
    for item in train:
        direction = item.path.parent.name, item.instruction
        files[direction] += 1
        turns[direction] += times[id(item)]
    for direction, number in sorted(files.items()):
        table.add_row(*direction, str(number), str(turns[direction]))
    return table
