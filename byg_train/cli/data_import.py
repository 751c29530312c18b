"""`data import`: another trainer's data set becomes a metadata.jsonl, or a style folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ..config import ConfigError, nearest
from ..data import DataError, Problem, counted
from .errors import expect_folder_name, expect_no_manifest
from .options import Drop, Force


def import_(
    source: Annotated[Path, Argument(metavar="SOURCE", help="Folder or file to read.")],
    kind: Annotated[
        str, Option("--from", help="Format of SOURCE: musubi, ai-toolkit or huggingface.")
    ],
    output: Annotated[
        Path | None, Option(help="Folder to copy files into; by default they stay in SOURCE.")
    ] = None,
    style: Annotated[str | None, Option(help="Name of a style folder in --output to fill.")] = None,
    caption_key: Annotated[str | None, Option(help="Column that holds the captions.")] = None,
    image_key: Annotated[str, Option(help="Parquet column that holds pictures.")] = "image",
    base: Annotated[
        Path | None, Option("--root", help="Folder that a musubi JSONL may refer to.")
    ] = None,
    drop: Drop = False,
    force: Force = False,
) -> None:
    """Import another trainer's data set."""
    from ..data.imports import READERS, Imported, Options
    from ..data.imports.destination import Destination
    from ..data.manifest import write_manifest
    from ..data.unused import by_reason, told
    from ..progress import Progress

    if kind not in READERS:
        hint = f"{nearest(kind, list(READERS))} (known: {', '.join(READERS)})"
        raise ConfigError(f"--from {kind!r}: unknown{hint}")
    if style is not None:
        expect_folder_name("--style", style)
    if style and not output:
        raise ConfigError("--style needs --output: the folder that holds a folder for each style")
    if not source.exists():
        raise DataError(f"{source} does not exist")
    root = output or (source if source.is_dir() else source.parent)
    if not style:
        expect_no_manifest(root, force)
    options = Options(caption_key, image_key, base)
    destination = Destination(root, copies=output is not None, style=style)
    number, problems, unused = destination.survey(READERS[kind](source, options))
    if problems and not drop:
        raise DataError(f"{len(problems)} of {source} cannot be used ({_hint(problems)})", problems)
    if not number:
        raise DataError(f"{source} leaves nothing to import", problems)
    without, rows = {problem.where for problem in problems}, []
    with Progress(number, "importing") as progress:
        for item in READERS[kind](source, options):
            if isinstance(item, Imported) and item.where not in without:
                rows.append(destination.put(item))
                progress.advance()
    if not style:
        write_manifest(root, rows)  # last: it says that everything is there
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    for why, names in by_reason(unused).items():
        typer.echo(f"not used: {told(names)}, {why}", err=True)
    typer.echo(_next_steps(root, style, rows))


def _hint(problems: list[Problem]) -> str:
    from ..data.rule_codes import NEEDS_COPY, OUTSIDE

    rules = {problem.rule for problem in problems}
    hint = "repair them, or leave them out with --drop"
    if OUTSIDE in rules:
        hint += "; --root names the folder that holds all files"
    if NEEDS_COPY in rules:
        hint += "; --output DIR copies files to a new data folder"
    return hint


def _next_steps(root: Path, style: str | None, rows: list[dict]) -> str:
    from ..data.manifest import NAMES
    from ..data.media_kind import found_kind
    from ..data.rows import TEXTS
    from ..family import usual_family
    from ..media.formats import CLIPS

    if style:
        there = root / style
        kind = found_kind(there)
        preset = usual_family(is_video=kind is CLIPS).usual.style_preset
        return (
            f"In {there}: {counted(len(rows), 'file')} with captions. With a second style folder "
            f"beside it, train:\n  python -m byg_train --preset {preset} --data {root}"
        )
    lacking = sum(not all(row.get(name) for name in TEXTS) for row in rows)
    summary = f"In {root / NAMES[0]}: {counted(len(rows), 'tuple')}"
    if lacking:
        return (
            f"{summary}; {lacking} of them have a caption and lack the other texts, without which "
            f"they cannot be trained on. `data caption` lets a vision-language model write them; "
            f"or import with --style, if the edit is a change of style."
        )
    return f"{summary}. Check them:\n  python -m byg_train data check {root}"
