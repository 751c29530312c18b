"""What the base model draws of captions, one by one, and the files that say how it was drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..config import TrainConfig
from ..data import DataError
from ..data.cache import Cache
from ..data.prompt_templates import Shot
from ..data.styles import Style
from ..files import atomic
from ..media.fit import Size
from ..media.pixels import to_frames, to_picture
from ..media.writer import write_clip
from ..models.backbone import Backbone, load_backbone
from ..models.sampler import Sampling
from ..progress import Progress
from .errors import full_disk_explained, out_of_memory_explained

# The field of a PNG that says how it was drawn; in an MP4 it is the comment.
RECIPE = "byg_train"


@dataclass(frozen=True)
class Recipe:
    """All that a file depends on; it is written into it. What is None says nothing."""

    prompt: str
    seed: int
    model: str
    dtype: str
    size: str
    steps: int
    shift: float | str
    guidance: float | None
    sampler: str | None = None  # None: Euler
    cfg: float | None = None  # None: no classifier-free guidance, and no negative
    cfg_low: float | None = None
    negative: str | None = None
    frames: int | None = None  # None: a picture
    fps: float | None = None

    @property
    def ending(self) -> str:
        """Of the file."""
        return ".png" if self.frames is None else ".mp4"

    @property
    def sampling(self) -> Sampling:
        """How it is sampled."""
        sampler, cfg, negative = self.sampler or "euler", self.cfg or 1.0, self.negative or ""
        return Sampling(self.steps, self.shift, sampler, cfg, self.cfg_low, negative)


def recipe_of(shot: Shot, words: Style, size: Size, config: TrainConfig) -> Recipe:
    """The recipe of one shot by a run's settings."""
    s, frames = config.sample, config.data.frames
    guided = Sampling(s.steps, s.shift, cfg=s.cfg, cfg_low=s.cfg_low).guided
    return Recipe(
        # The source caption that training will give the file.
        prompt=words.tell(shot.caption),
        seed=shot.seed,
        model=config.model.path,
        dtype=config.model.dtype,
        size=f"{size.width}x{size.height}",
        steps=s.steps,
        shift=s.shift,
        guidance=config.guidance.sample,
        sampler=None if s.sampler == "euler" else s.sampler,
        cfg=s.cfg if guided else None,
        cfg_low=s.cfg_low if guided else None,
        negative=s.negative if guided else None,
        frames=None if frames == 1 else frames,
        fps=None if frames == 1 else config.data.fps,
    )


def is_drawn(folder: Path, shot: Shot, recipe: Recipe) -> bool:
    """Whether the file is there; DataError if it was drawn in another way."""
    path = folder / f"{shot.name}{recipe.ending}"
    if not path.exists():
        return False
    found, wanted = _written_recipe(path), asdict(recipe)
    changed = [f"{k} {found.get(k)!r}, now {v!r}" for k, v in wanted.items() if found.get(k) != v]
    if changed:
        raise DataError(
            f"{path} was drawn in another way ({'; '.join(changed)}); choose another --seed, which "
            "gives other names, or move the old files away"
        )
    return True


def _written_recipe(path: Path) -> dict[str, object]:
    """What a file says; nothing, if it says none."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return json.loads(picture.info.get(RECIPE, "{}"))
    import av

    try:
        with av.open(str(path)) as clip:
            return json.loads(clip.metadata.get("comment", "{}"))
    except (av.FFmpegError, ValueError):
        return {}


# ---------------------------------------------------------------- drawing


def draw(
    folder: Path,
    recipes: Mapping[Shot, Recipe],
    config: TrainConfig,
    size: Size,
    cache_folder: Path,
    device: str,
) -> None:
    """One at a time: what a seed gives depends on nothing that is drawn beside it."""
    advice = "close other programs that use it, or choose a smaller --size"
    with full_disk_explained(folder, "again"), out_of_memory_explained(advice):
        backbone = load_backbone(config.model, device)
        # Training reads the same embeddings from the same cache.
        cache = Cache(cache_folder, backbone, config.data)
        texts = {text for r in recipes.values() for text in (r.prompt, r.negative or "")}
        cache.prepare([], texts, lambda done: None)
        blank = torch.zeros(1, 3, config.data.frames, size.height, size.width)
        like = backbone.encode_pixels(blank)
        backbone.drop_encoders()
        try:
            with Progress(len(recipes), "drawing") as progress:
                for shot, recipe in recipes.items():
                    pixels = _pixels(backbone, cache, recipe, like, progress)
                    _save(folder / shot.name, pixels, shot.caption, recipe)
                    progress.advance()
        except KeyboardInterrupt:
            typer.echo("\nstopped; the same command goes on where it was", err=True)
            raise typer.Exit(130) from None


@torch.no_grad()
def _pixels(
    backbone: Backbone, cache: Cache, recipe: Recipe, like: Tensor, progress: Progress
) -> Tensor:
    """Pixels (1, 3, F, H, W) in [-1, 1]; `like`: latents of that size."""
    generator = torch.Generator().manual_seed(recipe.seed)
    eps = torch.randn(like.shape, generator=generator).to(like)
    text, negative = (
        {name: part[None].to(like.device) for name, part in cache.text(words).items()}
        for words in (recipe.prompt, recipe.negative or "")
    )
    velocity = partial(backbone.velocity, guidance=recipe.guidance)
    _, boundary = backbone.spans.get("low", (0.0, 0.0))
    sampling = recipe.sampling

    def tell(done: int, of: int) -> None:
        progress.bar.update(progress.task, note=f"step {done}/{of}")

    field = sampling.field(velocity, text, None, negative, boundary)
    return backbone.decode_latents(sampling.solve(field, eps, tell))


def _save(path: Path, pixels: Tensor, caption: str, recipe: Recipe) -> None:
    """The drawing comes last: where it is, its caption is."""
    with atomic(path.with_suffix(".txt")) as temporary:
        temporary.write_text(f"{caption}\n", encoding="utf-8")
    words = json.dumps(asdict(recipe), ensure_ascii=False)
    if recipe.frames is None:
        told = PngInfo()
        told.add_itxt(RECIPE, words)
        with atomic(path.with_suffix(".png")) as temporary:
            to_picture(pixels[0]).save(temporary, pnginfo=told)
        return
    frames = to_frames(pixels[0])
    write_clip(path.with_suffix(".mp4"), frames, Fraction(recipe.fps), comment=words)
