"""`data generate`: a style folder of pictures that the base model draws from templated captions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..backbones import Backbone, Text, load_backbone
from ..backbones.flux import pixel_multiple, resolve_base
from ..config import ConfigError, TrainConfig
from ..data import DataError
from ..data.cache import Cache
from ..data.captions import Shot, Template, parse_template, read_list, read_templates, shots
from ..data.styles import Style, style_words
from ..files import atomic
from ..fit import Size
from ..flow import integrate
from ..progress import CONSOLE, Progress
from ..samples import sampling_grid, to_pictures
from .data_check import base_settings
from .errors import full_disk_explained, out_of_memory_explained
from .settings import resolve_device

# Pictures of a --template when --count is not given.
COUNT = 20
# The field of a PNG that says how it was drawn.
RECIPE = "byg_train"
# Seconds between lines where no terminal shows a bar.
QUIET = 30


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


@dataclass(frozen=True)
class Recipe:
    """All that a picture depends on; it is written into the file."""

    prompt: str
    seed: int
    model: str
    dtype: str
    size: str
    steps: int
    shift: float | str
    guidance: float | None


def run_generate(flags: GenerateFlags) -> None:
    """Check everything, then draw what is not there yet."""
    if not flags.style or Path(flags.style).name != flags.style or flags.style.startswith("."):
        raise ConfigError(f"style {flags.style!r}: wanted the name of a folder, such as photo")
    config = base_settings(flags.preset, flags.model, flags.assignments)
    if config.model.family != "flux":
        raise ConfigError(
            f"`data generate` draws pictures, and {config.model.path} draws clips "
            f"(model.family {config.model.family!r}); choose a FLUX base"
        )
    size = _size(flags.size, config)
    words = style_words(flags.root, flags.style, flags.templates)
    wanted = _shots(flags)
    recipes = {shot: _recipe(shot, words, size, config) for shot in wanted}
    todo = [
        shot for shot in wanted if not _is_drawn(words.folder / f"{shot.name}.png", recipes[shot])
    ]
    if len(todo) < len(wanted):
        typer.echo(f"{len(wanted) - len(todo)} of {len(wanted)} are there already", err=True)
    if todo:
        device = resolve_device(flags.device)
        resolve_base(config.model)
        _draw(flags.root, words, todo, recipes, config, size, device)
    typer.echo(
        f"{len(wanted)} pictures with captions are in {words.folder}. Look through them:\n"
        f"  python -m byg_train data preview {flags.root}"
    )


def _shots(flags: GenerateFlags) -> list[Shot]:
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


def _size(text: str | None, config: TrainConfig) -> Size:
    """`768x512`, or the preset's square."""
    multiple = pixel_multiple(config.model)
    if text is None:
        side = max(multiple, round(config.data.resolution / multiple) * multiple)
        return Size(side, side)
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not height.isdecimal():
        raise ConfigError(f"--size {text!r}: wanted WIDTHxHEIGHT in pixels, such as 768x512")
    size = Size(int(width), int(height))
    if any(side < multiple or side % multiple for side in size):
        raise ConfigError(f"--size {text}: wanted multiples of {multiple} pixels")
    return size


def _recipe(shot: Shot, words: Style, size: Size, config: TrainConfig) -> Recipe:
    return Recipe(
        # The source caption that training will give the picture.
        prompt=words.tell(shot.caption),
        seed=shot.seed,
        model=config.model.path,
        dtype=config.model.dtype,
        size=f"{size.width}x{size.height}",
        steps=config.sample.steps,
        shift=config.sample.shift,
        guidance=config.guidance.sample,
    )


def _is_drawn(path: Path, recipe: Recipe) -> bool:
    """Whether the picture is there; DataError if it was drawn in another way."""
    if not path.exists():
        return False
    with Image.open(path) as picture:
        found = json.loads(picture.info.get(RECIPE, "{}"))
    wanted = asdict(recipe)
    changed = [f"{k} {found.get(k)!r}, now {v!r}" for k, v in wanted.items() if found.get(k) != v]
    if changed:
        raise DataError(
            f"{path} was drawn in another way ({'; '.join(changed)}); choose another --seed, which "
            "gives other names, or move the old pictures away"
        )
    return True


# ---------------------------------------------------------------- drawing


def _draw(
    root: Path,
    words: Style,
    todo: list[Shot],
    recipes: dict[Shot, Recipe],
    config: TrainConfig,
    size: Size,
    device: str,
) -> None:
    """One picture at a time: what a seed gives depends on nothing that is drawn beside it."""
    advice = "close other programs that use it, or choose a smaller --size"
    with full_disk_explained(words.folder), out_of_memory_explained(advice):
        backbone = load_backbone(config.model, device)
        # Training reads the same embeddings from the same cache.
        cache = Cache(config.data.cache or root / ".byg_cache", backbone, config.data)
        cache.prepare([], {recipes[shot].prompt for shot in todo}, lambda done: None)
        like = backbone.encode_pixels(torch.zeros(1, 3, 1, size.height, size.width))
        backbone.drop_encoders()
        try:
            for shot in _counted(todo):
                text = {k: v[None] for k, v in cache.text(recipes[shot].prompt).items()}
                picture = _picture(backbone, text, recipes[shot], like)
                _save(words.folder / f"{shot.name}.png", picture, shot.caption, recipes[shot])
        except KeyboardInterrupt:
            typer.echo("\nstopped; the same command goes on where it was", err=True)
            raise typer.Exit(130) from None


def _counted(todo: list[Shot]) -> Iterator[Shot]:
    """With a progress bar, or a line now and then."""
    start = told = time.monotonic()
    with Progress(len(todo), "drawing") as progress:
        for done, shot in enumerate(todo):
            now = time.monotonic()
            if done and not CONSOLE.is_terminal and now - told > QUIET:
                left = (now - start) / done * (len(todo) - done)
                CONSOLE.print(f"drawing {done}/{len(todo)} eta {left / 60:.0f} min")
                told = now
            yield shot
            progress.advance()


@torch.no_grad()
def _picture(backbone: Backbone, text: Text, recipe: Recipe, like: Tensor) -> Image.Image:
    generator = torch.Generator().manual_seed(recipe.seed)
    eps = torch.randn(like.shape, generator=generator).to(like)
    velocity = partial(backbone.velocity, text=text, guidance=recipe.guidance)
    latents = integrate(velocity, eps, sampling_grid(recipe.steps, recipe.shift, like))
    return to_pictures(backbone.decode_latents(latents))[0]


def _save(path: Path, picture: Image.Image, caption: str, recipe: Recipe) -> None:
    """The picture comes last: where it is, its caption is."""
    with atomic(path.with_suffix(".txt")) as temporary:
        temporary.write_text(f"{caption}\n", encoding="utf-8")
    told = PngInfo()
    told.add_itxt(RECIPE, json.dumps(asdict(recipe), ensure_ascii=False))
    with atomic(path) as temporary:
        picture.save(temporary, pnginfo=told)
