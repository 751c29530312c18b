"""`data caption`, its options; what it does is in `captioning.py`, for that needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def caption(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with pictures and clips, at any depth.")
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(help="Address of an OpenAI-compatible server: http://localhost:8000/v1"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --endpoint: the model's name.")] = None,
    vlm: Annotated[
        str | None,
        typer.Option(help="In place of a server: hub id or folder of a model (Qwen3-VL)."),
    ] = None,
    style_folders: Annotated[
        bool,
        typer.Option("--style-folders", help="The folders in DIR are called like their style."),
    ] = False,
    clip_styles: Annotated[
        str | None,
        typer.Option(help="Styles to turn clips into: 'cartoon, photo-realistic'."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order and of the edits on offer.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many files; more with a later run.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 8,
    tries: Annotated[
        int, typer.Option(min=1, help="Answers to one question until a usable one.")
    ] = 3,
    retries: Annotated[
        int, typer.Option(min=0, help="Of a request that the server could not take.")
    ] = 6,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for one answer.")] = 600,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Of one answer, thoughts included.")
    ] = 8192,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="The server's own if not given.")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="Per million tokens of questions, for the bill.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Per million tokens of answers.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable that holds the API key.")
    ] = "OPENAI_API_KEY",
    device: Annotated[str, typer.Option(help="With --vlm: cpu, cuda or auto.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print one full prompt; ask nothing.")
    ] = False,
) -> None:
    """Let a vision-language model write the texts: metadata.jsonl, from pictures or clips alone.

    Ctrl-C, a crash or a power cut lose nothing: the same command goes on where it was.
    """
    from .captioning import CaptionFlags, run_caption

    run_caption(
        CaptionFlags(
            folder=folder,
            endpoint=endpoint,
            model=model,
            vlm=vlm,
            style_folders=style_folders,
            clip_styles=[s.strip() for s in (clip_styles or "").split(",") if s.strip()],
            seed=seed,
            limit=limit,
            concurrency=concurrency,
            tries=tries,
            retries=retries,
            timeout=timeout,
            max_tokens=max_tokens,
            temperature=temperature,
            price_in=price_in,
            price_out=price_out,
            key_variable=key_variable,
            device=device,
            dry_run=dry_run,
        )
    )
