"""`data preview`: the page served to this machine's browser, or written as one file."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import typer

from ..data import DataError
from ..data.check import Report, check, check_loose, rows_with_files
from ..data.excluded import EXCLUDED, read_excluded
from ..data.manifest import find_manifest
from ..data.media_kind import kind_of
from ..data.preview.page import inside, page
from ..data.preview.server import PreviewServer
from ..data.rows import data_folder, read_rows
from ..data.styles import style_folders
from ..files import atomic
from ..progress import Progress
from .data_check import limits


@dataclass(frozen=True)
class PreviewFlags:
    """The options of `data preview`."""

    root: Path
    templates: Path | None
    preset: str | None
    model: str | None
    static: Path | None
    port: int
    browser: bool


def run_preview(flags: PreviewFlags) -> None:
    """Look at everything once, then show it until Ctrl-C."""
    root = data_folder(flags.root)
    report = _report(root, flags)
    if flags.static:
        with Progress(len(report.facts), "packing") as progress:
            pack = inside(report, progress.advance)
            html = page(report, read_excluded(root), served=False, addresses=pack)
        with atomic(flags.static) as temporary:
            temporary.write_text(html, encoding="utf-8")
        size = flags.static.stat().st_size / 1e6
        typer.echo(
            f"{flags.static} ({size:.1f} MB) shows the set in any browser, on a phone too. Its "
            f"button downloads the decisions as {EXCLUDED}; put that file into {root}"
        )
        return
    with PreviewServer(report, flags.port) as server:
        typer.echo(f"{server.address}\nCtrl-C ends it; decisions are in {root / EXCLUDED} at once.")
        if flags.browser:
            webbrowser.open(server.address)
        server.serve_until_interrupted()
        entries = len(read_excluded(root))
        typer.echo(f"\nTraining leaves out what the {entries} lines in {root / EXCLUDED} name.")


def _report(root: Path, flags: PreviewFlags) -> Report:
    """Also of a folder that is no data set yet: a single style, or files with captions."""
    tokens, multiple, data = limits(root, flags.preset, flags.model)
    kind = kind_of(data)
    names = kind.names(root)
    if not names:
        raise DataError(f"{root} holds no {kind.many}; wanted {kind.formats.words} files")
    if find_manifest(root) is None and len(style_folders(root, kind)[0]) < 2:
        with Progress(len(names), "looking") as progress:
            return check_loose(root, multiple, data, progress.advance)
    rows, problems = read_rows(root, flags.templates, kind)
    number = len({path for _, path in rows_with_files(rows, root, kind)})
    with Progress(number, "looking") as progress:
        return check(root, rows, problems, tokens, multiple, data, progress.advance)
