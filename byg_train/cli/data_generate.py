"""`data generate`: a style folder of what the base model draws from templated captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ..config import ConfigError, TrainConfig
from ..progress import Progress
from .errors import (
    expect_folder_name,
    expect_writable,
    full_disk_explained,
    out_of_memory_explained,
)
from .options import Assignments, BaseModel, DataFolder, Device, Preset, Templates, resolve_device

if TYPE_CHECKING:
    from ..data.prompt_templates import Shot, Template
    from ..editing.drawing import DrawingRecipe
    from ..media.fit import Size
    from ..media.formats import Formats

# What is drawn of a --template when --count is not given.
COUNT = 20
# The shape of clips for which no size is given.
WIDE = (16, 9)


def generate(
    root: DataFolder,
    style: Annotated[str, Argument(metavar="STYLE", help="Name of the style folder to fill.")],
    captions: Annotated[
        Path | None,
        Option(help="Text file with a caption or template on every line, or a folder of captions."),
    ] = None,
    template: Annotated[
        str | None,
        Option(help="Template such as 'a {cat|dog} in {place}', with choices and list names."),
    ] = None,
    lists: Annotated[
        list[str] | None,
        Option(
            "--list",
            metavar="NAME=FILE",
            help="File of a list, with a choice on every line; repeatable.",
        ),
    ] = None,
    count: Annotated[
        int | None, Option(help="Number of pictures; default: one for each caption, or 20.")
    ] = None,
    seed: Annotated[int, Option(help="Seed of captions and noise.", min=0)] = 0,
    size: Annotated[
        str | None,
        Option(help="WIDTHxHEIGHT in pixels; default: the preset's square, or 16:9 for clips."),
    ] = None,
    templates: Templates = None,
    preset: Preset = None,
    model: BaseModel = None,
    assignments: Assignments = None,
    device: Device = "auto",
) -> None:
    """Let the base model draw a style folder; run the same command again to continue."""
    from ..data.limits import base_settings
    from ..data.media_kind import found_kind, kind_of
    from ..data.prompt_templates import shots
    from ..data.styles import style_words
    from ..editing.drawing import is_drawn, recipe_of
    from ..machine import resolve_dtype
    from ..media.formats import PICTURES

    expect_folder_name("style", style)
    usual = found_kind(root) if root.is_dir() else PICTURES
    config = base_settings(preset, model, assignments or [], usual)
    device = resolve_device(device)
    config = config.with_dtype(resolve_dtype(config.model.dtype, device))
    kind = kind_of(config.data)
    pixels = _size(size, config, kind)
    words = style_words(root, style, templates, kind)
    texts = _templates(captions, template, lists or [])
    count = (len(texts) if captions else COUNT) if count is None else count
    if count < 1:
        raise ConfigError(f"--count {count}: wanted 1 or more")
    wanted = shots(texts, count, style, seed)
    recipes = {shot: recipe_of(shot, words, pixels, config) for shot in wanted}
    left = {s: recipe for s, recipe in recipes.items() if not is_drawn(words.folder, s, recipe)}
    if len(left) < len(wanted):
        typer.echo(f"{len(wanted) - len(left)} of {len(wanted)} are there already", err=True)
    if left:
        cache = config.data.cache or root / ".byg_cache"
        _draw(words.folder, left, config, pixels, cache, device)
    typer.echo(
        f"{len(wanted)} {kind.many} with captions are in {words.folder}. Look through them:\n"
        f"  python -m byg_train data preview {root}"
    )


def _draw(
    folder: Path,
    recipes: Mapping[Shot, DrawingRecipe],
    config: TrainConfig,
    size: Size,
    cache: Path,
    device: str,
) -> None:
    """Draw with a progress bar; faults of the machine are explained."""
    from ..editing.drawing import draw
    from ..models.backbone import resolve_base

    expect_writable(folder)
    expect_writable(cache)
    resolve_base(config.model)
    advice = "close other programs that use it, or choose a smaller --size"
    with (
        full_disk_explained(folder, "again"),
        out_of_memory_explained(advice),
        Progress(len(recipes), "drawing") as progress,
    ):

        def on_step(done: int, of: int) -> None:
            progress.bar.update(progress.task, note=f"step {done}/{of}")

        try:
            for _ in draw(folder, recipes, config, size, cache, device, on_step):
                progress.advance()
        except KeyboardInterrupt:
            typer.echo("\nstopped; the same command goes on where it was", err=True)
            raise typer.Exit(130) from None


def _templates(captions: Path | None, template: str | None, lists: list[str]) -> list[Template]:
    from ..data.prompt_templates import UnknownListError, parse_template, read_list, read_templates

    if (captions is None) == (template is None):
        raise ConfigError("wanted either --captions FILE or --template TEXT, one of them")
    named = dict(map(read_list, lists))
    try:
        if captions:
            return read_templates(captions, named)
        return [parse_template(template, named, "--template")]
    except UnknownListError as error:
        raise ConfigError(f"{error}. Lists are given with --list {error.name}=FILE") from None


def _size(text: str | None, config: TrainConfig, kind: Formats) -> Size:
    """`768x512`; else the preset's square, of clips its bucket of 16:9."""
    from ..media.fit import Size, buckets, nearest_bucket
    from ..media.formats import PICTURES
    from ..models.backbone import pixel_multiple

    multiple = pixel_multiple(config.model)
    if text is None:
        aspect = 1.0 if kind is PICTURES else config.data.max_aspect
        return nearest_bucket(*WIDE, buckets(config.data.resolution, multiple, aspect))
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not height.isdecimal():
        raise ConfigError(f"--size {text!r}: wanted WIDTHxHEIGHT in pixels, such as 768x512")
    size = Size(int(width), int(height))
    if any(side < multiple or side % multiple for side in size):
        raise ConfigError(f"--size {text}: wanted multiples of {multiple} pixels")
    return size
