"""`data preview`: the page served to this machine's browser, or written as one file."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from ..data import DataError
from .options import BaseModel, DataFolder, Preset, Templates

if TYPE_CHECKING:
    from ..data.check import Limits, Report


def preview(
    root: DataFolder,
    static: Annotated[
        Path | None,
        Option(metavar="OUT.html", help="Write the page to this file instead of serving it."),
    ] = None,
    port: Annotated[
        int, Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    browser: Annotated[bool, Option("--open/--no-open", help="Open the page in a browser.")] = True,
    templates: Templates = None,
    preset: Preset = None,
    model: BaseModel = None,
) -> None:
    """Look through a data set in a browser, and exclude what must not be trained on."""
    from ..data.excluded import EXCLUDED, read_excluded
    from ..data.limits import limits
    from ..data.preview.server import PreviewServer
    from ..data.rows import data_folder

    data_folder(root)
    report = _report(root, templates, limits(root, preset, model))
    if static:
        _write(report, static)
        return
    with PreviewServer(report, port) as server:
        typer.echo(
            f"{server.address}\nDecisions are stored in {root / EXCLUDED} at once. "
            "Press Ctrl-C to stop."
        )
        if browser:
            webbrowser.open(server.address)
        server.serve_until_interrupted()
    entries = len(read_excluded(root))
    typer.echo(f"\nTraining leaves out what the {entries} lines in {root / EXCLUDED} name.")


def _write(report: Report, static: Path) -> None:
    from ..data.excluded import EXCLUDED, read_excluded
    from ..data.preview.page import inside, page
    from ..files import write_text
    from ..progress import Progress

    with Progress(len(report.facts), "packing") as progress:
        addresses = inside(report, progress.advance)
        html = page(report, read_excluded(report.root), served=False, addresses=addresses)
    write_text(static, html)
    typer.echo(
        f"{static} ({static.stat().st_size / 1e6:.1f} MB) shows the set in any browser, on a phone "
        f"too. Its button downloads the decisions as {EXCLUDED}; put that file into {report.root}"
    )


def _report(root: Path, templates: Path | None, limits: Limits) -> Report:
    """Check the folder, even if it is only a single style, or files with captions."""
    from ..data.check import check, check_loose
    from ..data.manifest import find_manifest
    from ..data.media_kind import kind_of, media_names
    from ..data.rows import read_rows
    from ..data.styles import style_folders
    from ..progress import Progress

    kind = kind_of(limits.data)
    if not media_names(root, kind):
        raise DataError(f"{root} holds no {kind.many}; wanted {kind.words} files")
    with Progress(1, "checking") as progress:
        if find_manifest(root) is None and len(style_folders(root, kind)[0]) < 2:
            return check_loose(root, limits, progress.follow)
        rows, problems = read_rows(root, templates, kind)
        return check(root, rows, problems, limits, progress.follow)
