"""`data generate`: a style folder of what the base model draws from templated captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from ..config import ConfigError, TrainConfig
from ..data.media_kind import PICTURES, MediaKind, found_kind, kind_of
from ..data.prompt_templates import (
    Shot,
    Template,
    UnknownListError,
    parse_template,
    read_list,
    read_templates,
    shots,
)
from ..data.styles import style_words
from ..editing.drawing import Recipe, draw, is_drawn, recipe_of
from ..machine import resolve_dtype
from ..media.fit import Size, buckets, nearest_bucket
from ..models.backbone import pixel_multiple, resolve_base
from ..progress import Progress
from .errors import full_disk_explained, out_of_memory_explained
from .limits import base_settings
from .settings import resolve_device

# What is drawn of a --template when --count is not given.
COUNT = 20
# The shape of clips for which no size is given.
WIDE = (16, 9)


@dataclass(frozen=True)
class GenerateFlags:
    """The options of `data generate`."""

    root: Path
    style: str
    captions: Path | None
    template: str | None
    lists: list[str]
    count: int | None
    seed: int
    size: str | None
    templates: Path | None
    preset: str | None
    model: str | None
    assignments: list[str]
    device: str


def run_generate(flags: GenerateFlags) -> None:
    """Check everything, then draw what is not there yet."""
    if not flags.style or Path(flags.style).name != flags.style or flags.style.startswith("."):
        raise ConfigError(f"style {flags.style!r}: wanted the name of a folder, such as photo")
    usual = found_kind(flags.root) if flags.root.is_dir() else PICTURES
    config = base_settings(flags.preset, flags.model, flags.assignments, usual)
    device = resolve_device(flags.device)
    config = config.with_dtype(resolve_dtype(config.model.dtype, device))
    kind = kind_of(config.data)
    size = _size(flags.size, config, kind)
    words = style_words(flags.root, flags.style, flags.templates, kind)
    wanted = _shots(flags)
    recipes = {shot: recipe_of(shot, words, size, config) for shot in wanted}
    todo = [shot for shot in wanted if not is_drawn(words.folder, shot, recipes[shot])]
    if len(todo) < len(wanted):
        typer.echo(f"{len(wanted) - len(todo)} of {len(wanted)} are there already", err=True)
    if todo:
        cache = config.data.cache or flags.root / ".byg_cache"
        left = {shot: recipes[shot] for shot in todo}
        _draw(words.folder, left, config, size, cache, device)
    typer.echo(
        f"{len(wanted)} {kind.many} with captions are in {words.folder}. Look through them:\n"
        f"  python -m byg_train data preview {flags.root}"
    )


def _draw(
    folder: Path,
    recipes: Mapping[Shot, Recipe],
    config: TrainConfig,
    size: Size,
    cache: Path,
    device: str,
) -> None:
    """Draw with a progress bar; faults of the machine are explained."""
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


def _shots(flags: GenerateFlags) -> list[Shot]:
    try:
        return _shots_of(flags)
    except UnknownListError as error:
        raise ConfigError(f"{error}. Lists are given with --list {error.name}=FILE") from None


def _shots_of(flags: GenerateFlags) -> list[Shot]:
    if (flags.captions is None) == (flags.template is None):
        raise ConfigError("wanted either --captions FILE or --template TEXT, one of them")
    lists = dict(map(read_list, flags.lists))
    templates: list[Template]
    if flags.captions:
        templates, count = read_templates(flags.captions, lists), flags.count
        count = len(templates) if count is None else count
    else:
        templates = [parse_template(flags.template, lists, "--template")]
        count = COUNT if flags.count is None else flags.count
    if count < 1:
        raise ConfigError(f"--count {count}: wanted 1 or more")
    return shots(templates, count, flags.style, flags.seed)


def _size(text: str | None, config: TrainConfig, kind: MediaKind) -> Size:
    """`768x512`; else the preset's square, of clips its bucket of 16:9."""
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
