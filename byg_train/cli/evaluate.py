"""`evaluate`: how well methods edit. Options only; each command has a file beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Measure edits: fetch tasks, edit them all, score the results."
)

Sources = Annotated[
    Path, typer.Option(help="What is edited, with metadata.jsonl; as `evaluate fetch` writes it.")
]
Instruction = Annotated[
    str | None, typer.Option(help="Of every edit, instead of a metadata.jsonl.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


@evaluate_app.command()
def fetch(
    benchmark: Annotated[str, typer.Argument(metavar="gedit | imgedit | styles")],
    folder: Annotated[Path, typer.Argument(metavar="TASKS", help="A new folder for the tasks.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Hub id, or what was downloaded before; styles: the folders."),
    ] = None,
    language: Annotated[str, typer.Option(help="gedit: en or cn.")] = "en",
    through: Annotated[
        str | None, typer.Option(help="styles: one end of every edit is this style.")
    ] = None,
    to: Annotated[str, typer.Option(help="styles: what edits lead to, A,B; all if empty.")] = "",
) -> None:
    """Write a benchmark's tasks: pictures or clips, and what is asked for."""
    from .evaluate_fetch import FetchFlags, run_fetch

    run_fetch(FetchFlags(benchmark, folder, source, language, through, _names(to)))


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


@evaluate_app.command()
def score(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="A folder for each method.")
    ],
    sources: Sources,
    truths: Annotated[
        Path | None, typer.Option(help="True targets, called like the results.")
    ] = None,
    instruction: Instruction = None,
    metrics: Annotated[
        str, typer.Option(help="A,B; `evaluate metrics` lists them. Empty: what fits.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--json", help="Write everything, every edit too.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="viescore, imgedit: the model that judges, by its name.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Where it answers: http://localhost:8000/v1; OpenAI's own.")
    ] = None,
    vlm: Annotated[
        str | None, typer.Option(help="In place of a server: hub id or folder of a judge.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable with the API key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option(min=1, help="Edits judged at once.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer, thoughts too.")] = 512,
    clip: Annotated[str | None, typer.Option(help="Hub id or folder of CLIP.")] = None,
    dino: Annotated[str | None, typer.Option(help="Hub id or folder of DINO.")] = None,
    vgg: Annotated[Path | None, typer.Option(help="lpips: VGG-16 as safetensors.")] = None,
    aesthetic_head: Annotated[
        Path | None, typer.Option(help="aesthetic: LAION's head as safetensors.")
    ] = None,
    cotracker: Annotated[
        str | None, typer.Option(help="motion: CoTracker's checkout, or `hub` (CC-BY-NC).")
    ] = None,
    raft: Annotated[
        Path | None, typer.Option(help="dynamic: torchvision's raft_large as safetensors.")
    ] = None,
    motion: Annotated[
        str, typer.Option(help="motion: edit_to_src, symmetric_mean or symmetric_sum.")
    ] = "edit_to_src",
    device: Device = "auto",
) -> None:
    """One table of all methods: means, standard errors, and how many values are missing."""
    from .evaluate_score import JudgeFlags, NetworkFlags, ScoreFlags, run_score

    run_score(
        ScoreFlags(
            results=results,
            sources=sources,
            truths=truths,
            instruction=instruction,
            metrics=_names(metrics),
            output=output,
            judge=JudgeFlags(judge, endpoint, vlm, key_variable, concurrency, max_tokens),
            networks=NetworkFlags(clip, dino, vgg, aesthetic_head, cotracker, raft, motion),
            device=device,
        )
    )


@evaluate_app.command("metrics")
def list_metrics() -> None:
    """List the metrics, the columns that they fill, and what they need."""
    from .evaluate_score import show_metrics

    show_metrics()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
