"""What a tiny base can draw: unselected text-to-image samples, and how often it does as asked.

python -m byg_train.world.show_base --output docs/pictures/base.png
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, ZImagePipeline
from PIL import Image

from ..evaluate.retrieval import rank
from ..evaluate.true_pairs import mean_colour, style_statistics
from ..media.grid import labelled_grid
from ..media.pixels import from_unit, to_unit
from ..media.writer import write_picture
from .names import COLOURS, KNOWN, STYLES
from .scenes import Scene, base_scene, caption, draw, object_mask, random_scene, withheld
from .words import TEXT_LEN

BASE = Path(__file__).parent / "base"


def sample(pipeline: DiffusionPipeline, captions: list[str], guidance: float) -> np.ndarray:
    """Pictures (N, 48, 48, 3) in [0, 1], 20 steps, seed 0."""
    # diffusers counts classifier-free guidance of Z-Image from 0, FLUX has an embedding of it.
    chat = isinstance(pipeline, ZImagePipeline)
    pictures = pipeline(
        captions,
        height=48,
        width=48,
        num_inference_steps=20,
        guidance_scale=guidance - chat,
        max_sequence_length=64 if chat else TEXT_LEN,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    return pictures.astype(np.float32)


def shows_ground(scene: Scene, picture: np.ndarray) -> bool:
    """Whether the ground's colour is nearest to the asked one of the nine (by its true mean)."""
    rim = np.zeros((48, 48))
    rim[:4] = rim[-4:] = rim[:, :4] = rim[:, -4:] = 1
    rim *= 1 - object_mask(scene)
    plain = {c: mean_colour(_drawn(scene, ground=c), rim) for c in COLOURS}
    found = mean_colour(picture, rim)
    return min(plain, key=lambda c: np.linalg.norm(plain[c] - found)) == scene.ground


def _drawn(scene: Scene, **changes: str | None) -> np.ndarray:
    return to_unit(draw(replace(scene, **changes)))


def shows_style(scene: Scene, picture: np.ndarray) -> bool:
    """Whether the style statistics are nearer to ink's or to the others', as asked."""
    mask = object_mask(scene)
    found = style_statistics(picture, mask)
    miss = {
        style: np.linalg.norm(style_statistics(_drawn(scene, style=style), mask) - found)
        for style in STYLES
    }
    return (min(miss, key=miss.get) == "ink") == (scene.style == "ink")


def place_of_subject(scene: Scene, picture: np.ndarray) -> int:
    """Place of the asked subject among all known ones in the same scene, by pixels; 0 = first."""
    others = np.stack([_drawn(scene, subject=n) for n in KNOWN if n != scene.subject])
    return rank(picture, _drawn(scene), others)


def _scene(rng: random.Random, style: str | None) -> Scene:
    """A scene of the base's share; with a style, one that leaves it by the style alone."""
    if style is None:
        return base_scene(rng)
    while withheld(scene := random_scene(rng, style=style)) != {"style"}:
        pass
    return scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument(
        "--withheld", choices=STYLES, help="only names that the base never saw in this style"
    )
    args = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(args.base, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    rng = random.Random(0)
    scenes = [_scene(rng, args.withheld) for _ in range(args.count)]
    pictures = sample(pipeline, [caption(s) for s in scenes], args.guidance)
    pairs = list(zip(scenes, pictures, strict=True))
    grounds = np.mean([shows_ground(s, p) for s, p in pairs])
    styles = np.mean([shows_style(s, p) for s, p in pairs])
    places = np.array([place_of_subject(s, p) for s, p in pairs])
    print(
        f"{args.count} samples at guidance {args.guidance}: asked ground {grounds:.1%}, "
        f"ink exactly where asked {styles:.1%}, asked subject nearest of {len(KNOWN)} "
        f"{np.mean(places < 1):.1%}, among the five nearest {np.mean(places < 5):.1%}"
    )
    shown = [Image.fromarray(from_unit(p)) for p in pictures[:40]]
    truth = [Image.fromarray(draw(s)) for s in scenes[:40]]
    rows = [[x for i in range(r, r + 4) for x in (shown[i], truth[i])] for r in range(0, 40, 4)]
    write_picture(args.output, labelled_grid(rows, ["base", "asked"] * 4, None, cell=96))


if __name__ == "__main__":
    main()
