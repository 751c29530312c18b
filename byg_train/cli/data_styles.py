"""`data styles`: style folders -> metadata.jsonl, the same tuples that training makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from ..data import DataError, Problem, counted
from .errors import expect_no_manifest
from .options import DataFolder, Drop, Force, Templates

if TYPE_CHECKING:
    from ..data.items import Item
    from ..media.formats import Formats


def styles(
    root: DataFolder,
    templates: Templates = None,
    caption: Annotated[
        str | None, Option(help="Caption for files that have none, such as 'a picture'.")
    ] = None,
    holdout: Annotated[int, Option(help="Number of tuples held out for validation.", min=0)] = 4,
    drop: Drop = False,
    force: Force = False,
) -> None:
    """Write metadata.jsonl from style folders: every file into every other style, balanced."""
    from ..data.excluded import drop_excluded
    from ..data.items import balanced, check_items, expect_every_style, split
    from ..data.manifest import NAMES, write_manifest
    from ..data.media_kind import found_kind
    from ..data.rows import data_folder, styled_rows
    from ..data.styles import BUILT_IN, OWN

    data_folder(root)
    expect_no_manifest(root, force)
    kind = found_kind(root)
    rows, problems = styled_rows(root, templates, kind, caption)
    rows, problems, excluded = drop_excluded(rows, problems, root)
    items, _, more = check_items(rows, root, kind, multiple=1)
    problems = [*problems, *more]
    if problems and not drop:
        number = counted(len(problems), "problem")
        raise DataError(f"{number} in {root} ({_hint(problems, kind)})", problems)
    train, test = split(items, holdout, root, styled=True)
    expect_every_style(train, root, kind, problems)
    repeats = Counter(id(item) for item in balanced(train, root))
    write_manifest(root, [_fields(item, root, repeats[id(item)]) for item in (*train, *test)])
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    Console().print(_table(train, repeats, root, kind))
    typer.echo(
        f"{counted(len(train), 'tuple')} to train on and {len(test)} held out, in {root / NAMES[0]}"
        + (f"; {excluded} excluded" if excluded else "")
    )
    if not templates and not (root / OWN).is_file():
        typer.echo(f"For other texts, copy {BUILT_IN[kind]} to {root / OWN} and change it there.")


def _hint(problems: list[Problem], kind: Formats) -> str:
    hint = "repair them, or leave them out with --drop"
    lacking = sum(problem.found == "no caption" for problem in problems)
    stand_in = f'; --caption "a {kind.one}" stands in for {counted(lacking, "caption")}'
    return hint + stand_in if lacking else hint


def _fields(item: Item, root: Path, repeats: int) -> dict:
    from ..data.manifest import TEXTS

    return {
        "file_name": item.path.relative_to(root).as_posix(),
        **{name: getattr(item, name) for name in (*TEXTS, "edit_type", "split")},
        "repeats": repeats if repeats > 1 else None,
    }


def _table(train: list[Item], repeats: Counter[int], root: Path, kind: Formats) -> Table:
    """Build a table of the files and the tuples per epoch of each direction."""
    from ..data.media_kind import style_folder

    table = Table("from", "instruction", kind.many, "per epoch")
    files: Counter[tuple[str, str]] = Counter()
    per_epoch: Counter[tuple[str, str]] = Counter()
    for item in train:
        direction = style_folder(item.path, root).name, item.instruction
        files[direction] += 1
        per_epoch[direction] += repeats[id(item)]
    for direction, number in sorted(files.items()):
        table.add_row(*direction, str(number), str(per_epoch[direction]))
    return table
