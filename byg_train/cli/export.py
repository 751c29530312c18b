"""`export`: a run's LoRA, packed to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def export(
    run: Annotated[Path, Argument(help="Folder of a run.")],
    weights: Annotated[
        str, Option(help="live: the trained weights; ema: their slow average.")
    ] = "live",
    step: Annotated[
        int | None, Option(help="Training step to export; default: the newest.")
    ] = None,
    output: Annotated[
        Path | None, Option(help="Folder for the files; default: RUN/export.")
    ] = None,
    name: Annotated[str | None, Option(help="Name of the files; default: the run's.")] = None,
) -> None:
    """Pack a run's LoRA to share: the file, a card, a preview and a ComfyUI workflow."""
    from ..export.card import said_of_steps
    from ..export.run import export_run
    from ..models.lora_file import read_info

    written = export_run(run, weights=weights, step=step, output=output, name=name)
    typer.echo("\n  ".join(map(str, ("Written:", *written))))
    lora = next(path for path in written if path.suffix == ".safetensors")
    if words := said_of_steps(read_info(lora)):
        typer.echo(words)
