"""`data check`: the linter's table, its JSON, and the repair of what is mechanical."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer import Option

from ..data import DataError, counted
from .options import BaseModel, DataFolder, Preset, Templates

if TYPE_CHECKING:
    from ..data.check import Finding, Report, Tokens

ERROR, WARNING = "error", "warning"
# Rows of the table unless all are asked for.
SHOWN = 40
BAR = 24
STYLE = {ERROR: "[red]error[/]", WARNING: "[yellow]warning[/]"}


def check(
    root: DataFolder,
    fix: Annotated[
        bool, Option("--fix", help="Repair metadata.jsonl where possible; keeps a .bak.")
    ] = False,
    strict: Annotated[bool, Option("--strict", help="Fail on warnings too.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print all findings as JSON.")] = False,
    everything: Annotated[
        bool, Option("--all", help="Print the whole table, however long.")
    ] = False,
    templates: Templates = None,
    preset: Preset = None,
    model: BaseModel = None,
) -> None:
    """Check texts, pictures and clips; the exit code is 1 if there are errors."""
    from ..data.check import check as check_set
    from ..data.excluded import drop_excluded
    from ..data.limits import limits
    from ..data.media_kind import kind_of
    from ..data.rows import data_folder, read_rows
    from ..progress import Progress

    data_folder(root)
    if fix:
        _fix(root)
    base = limits(root, preset, model)
    rows, problems = read_rows(root, templates, kind_of(base.data))
    rows, problems, excluded = drop_excluded(rows, problems, root)
    with Progress(1, "checking") as progress:
        report = check_set(root, rows, problems, base, progress.follow)
    if as_json:
        typer.echo(
            json.dumps(_as_json(report, base.tokens, excluded), ensure_ascii=False, indent=1)
        )
    else:
        _print(report, base.tokens, excluded, None if everything else SHOWN)
    if report.errors or (strict and report.findings):
        raise typer.Exit(1)


def _fix(root: Path) -> None:
    from ..data.manifest import find_manifest
    from ..data.repair import repair

    manifest = find_manifest(root)
    if manifest is None or manifest.suffix != ".jsonl":
        found = manifest.name if manifest else "style folders"
        raise DataError(
            f"--fix repairs a metadata.jsonl, and {root} has {found}; make one with "
            f"`data {'import' if manifest else 'styles'}`"
        )
    done = repair(manifest)
    for what, number in done.items():
        typer.echo(f"{what}: {number}", err=True)
    kept = f"the old file is kept as {manifest.name}.bak" if done else "nothing to repair"
    typer.echo(kept, err=True)


def _as_json(report: Report, tokens: Tokens, excluded: int) -> dict:
    levels = Counter(finding.level for finding in report.findings)
    return {
        "folder": str(report.root),
        "tuples": len(report.rows),
        "excluded": excluded,
        "errors": levels[ERROR],
        "warnings": levels[WARNING],
        "edit_types": dict(report.edit_types),
        "text_limit": {"tokens": tokens.limit, "estimated": tokens.estimated},
        "findings": [finding._asdict() for finding in report.findings],
    }


def _print(report: Report, tokens: Tokens, excluded: int, most: int | None) -> None:
    from ..data.check import grouped

    console = Console()
    groups = grouped(report.findings)
    if groups:
        console.print(_table(groups, most))
    if report.edit_types:
        console.print(_balance(report.edit_types))
    levels = Counter(finding.level for finding in report.findings)
    files = len({row.fields.get("file_name") for row in report.rows})
    summary = f"{counted(len(report.rows), 'tuple')} of {counted(files, report.kind.one)}"
    summary += f" ({excluded} excluded)" if excluded else ""
    summary += f": {counted(levels[ERROR], 'error')}, {counted(levels[WARNING], 'warning')}"
    how = "estimated at four letters each" if tokens.estimated else "by the base's tokenizer"
    console.print(f"{summary}. Texts may have {tokens.limit} tokens, {how}.", highlight=False)


def _table(groups: dict[Finding, list[Finding]], most: int | None) -> Table:
    """Format findings, grouped, with errors first and then by the number of tuples."""
    table = Table("", Column("where", no_wrap=True), "found", show_lines=True)
    order = sorted(groups.items(), key=lambda g: (g[0].level != ERROR, -len(g[1])))
    for first, group in order[:most]:
        more = f"\nand {len(group) - 1} more" if len(group) > 1 else ""
        field = f"{first.field}: " if first.field and first.field not in first.found else ""
        table.add_row(
            f"{STYLE[first.level]}\n{escape(first.rule)}",
            escape(f"{first.where}{more}"),
            f"{escape(field + first.found)}\n[dim]wanted {escape(first.wanted)}[/]",
        )
    if most is not None and len(order) > most:
        table.caption = f"and {len(order) - most} more rows: --all shows them, --json lists all"
    return table


def _balance(kinds: Counter[str]) -> Table:
    table = Table("edit type", "tuples", "", title="training tuples", title_justify="left")
    for kind, number in kinds.most_common():
        table.add_row(
            escape(kind) or "(none)", str(number), "█" * -(-BAR * number // max(kinds.values()))
        )
    return table
