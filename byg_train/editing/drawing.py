"""Text-to-image: what a base draws of captions, and files that say how they were drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..config import TrainConfig
from ..data import DataError
from ..data.cache import Cache
from ..data.prompt_templates import Shot
from ..data.styles import Style
from ..files import atomic, write_text
from ..media.fit import Size
from ..media.pixels import to_frames, to_picture
from ..media.writer import write_clip
from ..models.backbone import load_backbone
from ..models.configured_info import configured_info
from ..models.sampler import Sampling
from .editor import Editor

# The field of a PNG that says how it was drawn; in an MP4 it is the comment.
RECIPE = "byg_train"


@dataclass(frozen=True)
class DrawingRecipe:
    """Everything that a drawn file depends on, as it is written into it; None is left out."""

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
        """The ending of the file's name."""
        return ".png" if self.frames is None else ".mp4"


def recipe_of(shot: Shot, words: Style, size: Size, config: TrainConfig) -> DrawingRecipe:
    """The recipe of one shot by a run's settings."""
    s, frames = config.sample, config.data.frames
    guided = Sampling(s.steps, s.shift, cfg=s.cfg, cfg_low=s.cfg_low).guided
    return DrawingRecipe(
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


def is_drawn(folder: Path, shot: Shot, recipe: DrawingRecipe) -> bool:
    """Whether the file is there; DataError if it was drawn in another way."""
    path = folder / f"{shot.name}{recipe.ending}"
    if not path.exists():
        return False
    old, wanted = _written_recipe(path), asdict(recipe)
    changed = [f"{k} {old.get(k)!r}, now {v!r}" for k, v in wanted.items() if old.get(k) != v]
    if changed:
        raise DataError(
            f"{path} was drawn in another way ({'; '.join(changed)}); choose another seed, which "
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


def draw(
    folder: Path,
    recipes: Mapping[Shot, DrawingRecipe],
    config: TrainConfig,
    size: Size,
    cache_folder: Path,
    device: str,
    on_step: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Path]:
    """Draw shots one at a time, so that what a seed gives depends on nothing drawn beside it.

    Args:
        folder: where the pictures or clips go, each with a .txt of its caption.
        recipes: how each shot is drawn, by the settings of `config` and in pixels of `size`.
        cache_folder: of embeddings; training reads the same ones from there.
        on_step: called with (done, of) after every sampling step of a shot.

    Yields:
        Each shot's path without its ending, when its files are written.
    """
    backbone = load_backbone(config.model, device)
    texts = Cache(cache_folder, backbone, config.data)
    editor = Editor(backbone, None, configured_info(config, backbone.multiple), texts=texts)
    editor.learn({recipe.prompt for recipe in recipes.values()})
    blank = torch.zeros(1, 3, config.data.frames, size.height, size.width)
    like = backbone.encode_pixels(blank)
    for shot, recipe in recipes.items():
        y_0 = editor.sample(like, [recipe.prompt], seed=recipe.seed, role="base", each=on_step)
        _save(folder / shot.name, editor.decoded(y_0), shot.caption, recipe)
        yield folder / shot.name


def _save(path: Path, pixels: Tensor, caption: str, recipe: DrawingRecipe) -> None:
    """The drawing comes last: where it is, its caption is."""
    write_text(path.with_suffix(".txt"), f"{caption}\n")
    words = json.dumps(asdict(recipe), ensure_ascii=False)
    if recipe.frames is None:
        info = PngInfo()
        info.add_itxt(RECIPE, words)
        with atomic(path.with_suffix(".png")) as temporary:
            to_picture(pixels[0]).save(temporary, pnginfo=info)
        return
    frames = to_frames(pixels[0])
    write_clip(path.with_suffix(".mp4"), frames, Fraction(recipe.fps), comment=words)
