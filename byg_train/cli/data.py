"""`data`: from a folder of pictures or clips to training tuples. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .data_caption import caption as write_captions

data_app = typer.Typer(no_args_is_help=True, help="From pictures or clips to training tuples.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The data folder.")]
Templates = Annotated[
    Path | None, typer.Option("--styles", help="Templates; DIR/styles.toml if it is there.")
]
Preset = Annotated[
    str | None, typer.Option(help="What will be trained; tells text length and base.")
]
Model = Annotated[str | None, typer.Option(help="Base: hub id, folder, .safetensors or world.")]
Drop = Annotated[bool, typer.Option("--drop", help="Leave out what cannot be used, and list it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a metadata.jsonl; it becomes .bak.")]


@data_app.command()
def styles(
    root: Folder,
    templates: Templates = None,
    caption: Annotated[
        str | None, typer.Option(help="Stands in for missing captions: 'a picture'.")
    ] = None,
    holdout: Annotated[int, typer.Option(help="Tuples kept out of training.", min=0)] = 4,
    drop: Drop = False,
    force: Force = False,
) -> None:
    """Style folders -> metadata.jsonl: every file into every other style, balanced."""
    from .data_styles import StylesFlags, run_styles

    run_styles(StylesFlags(root, templates, caption, holdout, drop, force))


data_app.command("caption")(write_captions)


@data_app.command()
def check(
    root: Folder,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what is mechanical; keeps a .bak.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Do not shorten the table.")] = False,
    templates: Templates = None,
    preset: Preset = None,
    model: Model = None,
) -> None:
    """Check texts, pictures and clips; exit code 1 if there are errors."""
    from .data_check import CheckFlags, run_check

    run_check(CheckFlags(root, templates, preset, model, fix, strict, as_json, everything))


@data_app.command()
def preview(
    root: Folder,
    static: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Write one file instead of serving.")
    ] = None,
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    templates: Templates = None,
    preset: Preset = None,
    model: Model = None,
) -> None:
    """Look through a set in a browser and strike what training shall not see."""
    from .data_preview import PreviewFlags, run_preview

    run_preview(PreviewFlags(root, templates, preset, model, static, port, browser))


@data_app.command()
def generate(
    root: Folder,
    style: Annotated[str, typer.Argument(metavar="STYLE", help="The style folder to fill.")],
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Text file: a caption, or template, on every line; or a folder of captions."
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="'a {cat|dog} in {place}': choices, and lists by name.")
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="NAME=FILE", help="A choice on every line; repeatable."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many; one for every line, or 20.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives others.", min=0)] = 0,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT; the preset's square, or 16:9 for clips.")
    ] = None,
    templates: Templates = None,
    preset: Preset = None,
    model: Model = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting of the preset."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Have the base model draw a style folder; the same command goes on where it was."""
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


@data_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder or file to read.")],
    kind: Annotated[str, typer.Option("--from", help="musubi, ai-toolkit or huggingface.")],
    output: Annotated[
        Path | None, typer.Option(help="Copy into this folder; else refer to files in SOURCE.")
    ] = None,
    style: Annotated[str | None, typer.Option(help="Become this style folder of --output.")] = None,
    caption_key: Annotated[str | None, typer.Option(help="Column with the captions.")] = None,
    image_key: Annotated[str, typer.Option(help="Parquet column with the pictures.")] = "image",
    base: Annotated[
        Path | None, typer.Option("--root", help="Folder that a musubi JSONL may lead into.")
    ] = None,
    drop: Drop = False,
    force: Force = False,
) -> None:
    """Take over another trainer's data set."""
    from ..data.imports import Options
    from .data_import import ImportFlags, run_import

    options = Options(caption_key, image_key, base)
    run_import(ImportFlags(source, kind, output, style, options, drop, force))
