"""The options of `edit`; what it does is in `edit.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
# Where a setting comes from that is not given.
AS_TRAINED = "as trained if not given"


def edit(
    lora: Annotated[
        Path, typer.Option(help="A LoRA file that byg_train wrote; of a pair either one.")
    ],
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            "--image",
            "--video",
            help="What to edit, of any size: a picture; for a LoRA of a video model a clip, or a "
            "folder of frames.",
        ),
    ],
    instruction: Annotated[str, typer.Option(help="What to change.")],
    output: Annotated[
        Path, typer.Option(help="Where the result goes: a picture, an .mp4, a folder for frames.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Base model; the one the LoRA was trained on if not given.")
    ] = None,
    components: Annotated[
        str | None, typer.Option(help="For a single-file base: folder or hub id of its VAE etc.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Of the LoRA; 1 as trained.")] = 1.0,
    n: Annotated[
        int, typer.Option("--n", help="Results from so many seeds, and all beside each other.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    steps: Annotated[int | None, typer.Option(help=f"Sampling steps; {AS_TRAINED}.")] = None,
    sampler: Annotated[str | None, typer.Option(help=f"euler or unipc; {AS_TRAINED}.")] = None,
    shift: Annotated[
        float | None, typer.Option(help=f"Of the sampling times towards noise; {AS_TRAINED}.")
    ] = None,
    cfg: Annotated[
        float | None,
        typer.Option(help=f"Classifier-free guidance, 1: none; {AS_TRAINED}."),
    ] = None,
    cfg_low: Annotated[
        float | None, typer.Option(help="The same for the low-noise expert of a pair.")
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help=f"What --cfg leads away from; {AS_TRAINED}.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help=f"Guidance input of distilled models; {AS_TRAINED}.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help=f"Edit at about N x N pixels; {AS_TRAINED}.", metavar="N")
    ] = None,
    start: Annotated[float | None, typer.Option(help="Of a clip: from this second on.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of a clip: so many of them.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Of a folder of frames; the model's rate if not given.")
    ] = None,
    single_expert: Annotated[
        bool, typer.Option("--single-expert", help="The other expert of the pair has no LoRA.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Edit a picture or a clip with a trained LoRA."""
    from ..editing.editor import Wishes
    from .edit import EditFlags, run_edit

    run_edit(
        EditFlags(
            lora=lora,
            source=source,
            instruction=instruction,
            output=output,
            model=model,
            components=components,
            strength=strength,
            n=n,
            seed=seed,
            wishes=Wishes(
                steps=steps,
                sampler=sampler,
                shift=shift,
                cfg=cfg,
                cfg_low=cfg_low,
                negative=negative,
                guidance=guidance,
                resolution=resolution,
            ),
            device=device,
            start=start,
            seconds=seconds,
            fps=fps,
            single_expert=single_expert,
        )
    )
