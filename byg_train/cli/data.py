"""The group `data`: from a folder of pictures or clips to training tuples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .data_caption import caption
from .data_check import check
from .data_import import import_
from .data_preview import preview
from .data_styles import styles
from .options import Assignments, BaseModel, DataFolder, Device, Preset, Templates

data_app = typer.Typer(no_args_is_help=True, help="Turn pictures or clips into training tuples.")
data_app.command()(styles)
data_app.command()(caption)
data_app.command()(check)
data_app.command()(preview)


@data_app.command()
def generate(
    root: DataFolder,
    style: Annotated[
        str, typer.Argument(metavar="STYLE", help="Name of the style folder to fill.")
    ],
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a caption or template on every line, or a folder of captions."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="Template such as 'a {cat|dog} in {place}', with choices and list names."
        ),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--list",
            metavar="NAME=FILE",
            help="File of a list, with a choice on every line; repeatable.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Number of pictures; default: one for each caption, or 20.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of captions and noise.", min=0)] = 0,
    size: Annotated[
        str | None,
        typer.Option(
            help="WIDTHxHEIGHT in pixels; default: the preset's square, or 16:9 for clips."
        ),
    ] = None,
    templates: Templates = None,
    preset: Preset = None,
    model: BaseModel = None,
    assignments: Assignments = None,
    device: Device = "auto",
) -> None:
    """Let the base model draw a style folder; run the same command again to continue."""
    from .data_generate import GenerateFlags, run_generate

    run_generate(
        GenerateFlags(
            root=root,
            style=style,
            captions=captions,
            template=template,
            lists=lists or [],
            count=count,
            seed=seed,
            size=size,
            templates=templates,
            preset=preset,
            model=model,
            assignments=assignments or [],
            device=device,
        )
    )


data_app.command("import")(import_)
