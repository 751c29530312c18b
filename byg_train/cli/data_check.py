"""`data check`: the linter's table, its JSON, and the repair of what is mechanical."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..config import ConfigError, DataConfig, TrainConfig
from ..data import DataError, counted
from ..data.check import (
    ERROR,
    Finding,
    Report,
    Tokens,
    check,
    estimated,
    grouped,
    rows_with_files,
    tokenized,
)
from ..data.excluded import drop_excluded
from ..data.manifest import find_manifest
from ..data.media_kind import CLIPS, MediaKind, expect_kind, found_kind, kind_of
from ..data.repair import repair
from ..data.rows import data_folder, read_rows
from ..family import EMBEDDED, family_of, is_embedded, usual_family
from ..models.backbone import pixel_multiple
from ..models.locate import described
from ..progress import Progress
from .settings import Flags, settings

# Kinds of findings that the table spells out.
SHOWN = 40
BAR = 24
STYLE = {ERROR: "[red]error[/]", "warning": "[yellow]warning[/]"}


@dataclass(frozen=True)
class CheckFlags:
    """The options of `data check`."""

    root: Path
    templates: Path | None = None
    preset: str | None = None
    model: str | None = None
    fix: bool = False
    strict: bool = False
    as_json: bool = False
    everything: bool = False


class Limits(NamedTuple):
    """What the base that is meant takes."""

    tokens: Tokens
    multiple: int  # pixels; no file may be smaller
    data: DataConfig  # pictures or clips, and of these how long and how fast


def base_settings(
    preset: str | None, model: str | None, assignments: list[str], kind: MediaKind
) -> TrainConfig:
    """A base and its sizes, as training has them; the embedded one alone means the demo's.

    Without a preset, the one for files of this kind.
    """
    family = usual_family(is_video=kind is CLIPS)
    usual = family.embedded.preset if is_embedded(model) else family.usual.style_preset
    return settings(Flags(preset=preset or usual, model=model, assignments=assignments))


def run_check(flags: CheckFlags) -> None:
    """Exit code 1 if there are errors (or, with --strict, warnings)."""
    root = data_folder(flags.root)
    if flags.fix:
        _fix(root)
    tokens, multiple, data = limits(root, flags.preset, flags.model)
    rows, problems = read_rows(root, flags.templates, kind_of(data))
    rows, problems, excluded = drop_excluded(rows, problems, root)
    number = len({path for _, path in rows_with_files(rows, root, kind_of(data))})
    with Progress(number, "checking") as progress:
        report = check(root, rows, problems, tokens, multiple, data, progress.advance)
    if flags.as_json:
        typer.echo(json.dumps(_plain(report, tokens, excluded), ensure_ascii=False, indent=1))
    else:
        _show(report, tokens, excluded, None if flags.everything else SHOWN)
    if report.errors or (flags.strict and report.findings):
        raise typer.Exit(1)


def limits(root: Path, preset: str | None, model: str | None) -> Limits:
    """Of the base that is meant, else of the usual family for the pictures or clips here."""
    if not preset and not model:
        return _usual(found_kind(root))
    config = base_settings(preset, model, [], found_kind(root))
    expect_kind(root, config.data)
    base = config.model
    folder = described(base)
    if folder is None and model and not model.count("/") == 1:
        raise ConfigError(f"--model {model!r}: wanted a diffusers folder, a hub id, or {EMBEDDED}")
    tokenizer = folder and folder / family_of(base.family).tokenizer
    there = tokenizer is not None and tokenizer.is_dir()
    tokens = tokenized(tokenizer, base.text_len) if there else estimated(base.text_len)
    return Limits(tokens, pixel_multiple(base), config.data)


def _usual(kind: MediaKind) -> Limits:
    usual = usual_family(is_video=kind is CLIPS).usual
    return Limits(estimated(usual.text_len), usual.multiple, DataConfig(frames=usual.frames))


def _fix(root: Path) -> None:
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
    kept = f"what was there is in {manifest.name}.bak" if done else "nothing mechanical to repair"
    typer.echo(kept, err=True)


# ---------------------------------------------------------------- telling


def _plain(report: Report, tokens: Tokens, excluded: int) -> dict:
    levels = Counter(finding.level for finding in report.findings)
    return {
        "folder": str(report.root),
        "tuples": len(report.rows),
        "excluded": excluded,
        "errors": levels[ERROR],
        "warnings": levels["warning"],
        "edit_types": dict(report.edit_types),
        "text_limit": {"tokens": tokens.limit, "estimated": tokens.estimated},
        "findings": [finding._asdict() for finding in report.findings],
    }


def _show(report: Report, tokens: Tokens, excluded: int, most: int | None) -> None:
    console = Console()
    groups = grouped(report.findings)
    if groups:
        console.print(_table(groups, most))
    if report.edit_types:
        console.print(_balance(report.edit_types))
    levels = Counter(finding.level for finding in report.findings)
    files = len({row.fields.get("file_name") for row in report.rows})
    told = f"{counted(len(report.rows), 'tuple')} of {counted(files, report.kind.one)}"
    told += f" ({excluded} excluded)" if excluded else ""
    told += f": {counted(levels[ERROR], 'error')}, {counted(levels['warning'], 'warning')}"
    how = "estimated at four letters each" if tokens.estimated else "by the base's tokenizer"
    console.print(f"{told}. Texts may have {tokens.limit} tokens, {how}.", highlight=False)


def _table(groups: dict[Finding, list[Finding]], most: int | None) -> Table:
    """Errors first, then what is said of the most tuples; the same of several in one row."""
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
