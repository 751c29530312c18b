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
    output: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of one method.")],
    sources: Sources,
    lora: Annotated[
        Path | None,
        typer.Option(help="A LoRA file that byg_train wrote; baselines can do with --model."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="lora, or a baseline on its base: flowedit, text-to-image, copy.")
    ] = "lora",
    instruction: Instruction = None,
    model: Annotated[
        str | None, typer.Option(help="Base model; the one the LoRA was trained on if not given.")
    ] = None,
    components: Annotated[
        str | None, typer.Option(help="For a single-file base: its VAE and encoders.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, for every edit.", min=0)] = 0,
    steps: Annotated[
        int | None, typer.Option(help="As trained if not given; flowedit: 28.", min=1)
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels squared; as trained if not given.", min=16)
    ] = None,
    device: Device = "auto",
) -> None:
    """Edit every task; the same command goes on where it was."""
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
