"""`export`: a run's LoRA, packed to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    weights: Annotated[
        str, typer.Option(help="live: the trained weights; ema: their slow average.")
    ] = "live",
    step: Annotated[
        int | None, typer.Option(help="Training step to export; default: the newest.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: RUN/export.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the files; default: the run's.")] = None,
) -> None:
    """Pack a run's LoRA to share: the file, a card, a preview and a ComfyUI workflow."""
    from ..export.run import export_run

    written = export_run(run, weights=weights, step=step, output=output, name=name)
    typer.echo("\n  ".join(map(str, ("Written:", *written))))
