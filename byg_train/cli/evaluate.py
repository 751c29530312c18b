"""The group `evaluate`: measure how well methods edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .evaluate_fetch import fetch
from .evaluate_score import metrics, score
from .options import Device, Instruction, Sources

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Measure edits: fetch tasks, edit them all, score the results."
)
evaluate_app.command()(fetch)


@evaluate_app.command()
def edit(
    output: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Folder for the results of one method.")
    ],
    sources: Sources,
    lora: Annotated[
        Path | None,
        typer.Option(help="LoRA file written by byg_train; baselines need only --model."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="lora, or a baseline: flowedit, text-to-image or copy.")
    ] = "lora",
    instruction: Instruction = None,
    model: Annotated[
        str | None, typer.Option(help="Base model; default: the one that the LoRA was trained on.")
    ] = None,
    components: Annotated[
        str | None, typer.Option(help="VAE and text encoders for a single-file base model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise, for every edit.", min=0)] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="Sampling steps; default: as trained, or 28 for flowedit.", min=1),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Work at about N x N pixels; default: as trained.", min=16)
    ] = None,
    device: Device = "auto",
) -> None:
    """Edit every task; run the same command again to continue."""
    from .evaluate_edit import EditAllFlags, run_edit_all

    run_edit_all(
        EditAllFlags(
            output=output,
            sources=sources,
            instruction=instruction,
            lora=lora,
            method=method,
            model=model,
            components=components,
            seed=seed,
            steps=steps,
            resolution=resolution,
            device=device,
        )
    )


evaluate_app.command()(score)
evaluate_app.command()(metrics)
