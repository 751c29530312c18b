"""What the tiny Wan base can draw: unselected text-to-video samples, and how often as asked.

python -m byg_train.world.show_wan --output docs/pictures/base_wan.png
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from PIL import Image

from ..evaluate.retrieval import rank
from ..evaluate.true_pairs import style_statistics
from ..media.grid import labelled_grid
from ..media.pixels import from_unit
from ..media.writer import write_picture
from .clips import FRAMES, GROUNDS, KNOWN, MOTIONS, SIZE, Clip, base_clip, caption, object_mask
from .judge import CLIPS, Frames, tall
from .motion import ground_colour, motion_error
from .names import COLOURS, STYLES
from .words import TEXT_LEN

BASE = Path(__file__).parent / "base_wan"
# Samples at once, and frames of each that are shown.
BATCH, SHOWN = 16, (0, 4, 8)


def load(base: Path = BASE) -> WanPipeline:
    """The pipeline, in float32 and without bars."""
    pipeline = WanPipeline.from_pretrained(base, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: WanPipeline, captions: list[str], steps: int, cfg: float) -> list[Frames]:
    """Clips by Wan's own sampler (UniPC), seed 0."""
    g, clips = torch.Generator().manual_seed(0), []
    for first in range(0, len(captions), BATCH):
        frames = pipeline(
            captions[first : first + BATCH],
            height=SIZE,
            width=SIZE,
            num_frames=FRAMES,
            num_inference_steps=steps,
            guidance_scale=cfg,
            max_sequence_length=TEXT_LEN,
            generator=g,
            output_type="np",
        ).frames
        clips += list(frames.astype(np.float32))
    return clips


def shows_ground(clip: Clip, out: Frames) -> bool:
    """Whether the colour along the edges is nearest to the asked one of the six."""
    found = ground_colour(out) * 255
    apart = {g: np.linalg.norm(found - COLOURS[g]) for g in GROUNDS}
    return min(apart, key=apart.get) == clip.ground


def shows_motion(clip: Clip, out: Frames) -> bool:
    """Whether the subject moves most like the asked one of the five motions."""
    apart = {m: motion_error(out, CLIPS.drawn(replace(clip, motion=m))) for m in MOTIONS}
    return min(apart, key=apart.get) == clip.motion


def shows_style(clip: Clip, out: Frames) -> bool:
    """Whether the style statistics are nearer to ink's or to the others', as asked."""
    mask = tall(object_mask(clip))
    found, miss = style_statistics(tall(out), mask), {}
    for style in STYLES:
        wanted = style_statistics(tall(CLIPS.drawn(replace(clip, style=style))), mask)
        miss[style] = np.linalg.norm(wanted - found)
    return (min(miss, key=miss.get) == "ink") == (clip.style == "ink")


def place_of_subject(clip: Clip, out: Frames) -> int:
    """Place of the asked subject among all known ones in the same clip, by pixels; 0 = first."""
    others = [tall(CLIPS.drawn(replace(clip, subject=n))) for n in KNOWN if n != clip.subject]
    return rank(tall(out), tall(CLIPS.drawn(clip)), np.stack(others))


def _pictures(clips: list[Frames]) -> list[Image.Image]:
    """Some frames of each clip beside each other."""
    strips = (np.concatenate([clip[i] for i in SHOWN], axis=1) for clip in clips)
    return [Image.fromarray(from_unit(strip)) for strip in strips]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=96)
    args = parser.parse_args()
    rng = random.Random(0)
    asked = [base_clip(rng) for _ in range(args.count)]
    outs = sample(load(args.base), [caption(clip) for clip in asked], args.steps, args.cfg)
    pairs = list(zip(asked, outs, strict=True))
    shown = {
        check.__name__.removeprefix("shows_"): np.mean([check(c, o) for c, o in pairs])
        for check in (shows_ground, shows_motion, shows_style)
    }
    places = np.array([place_of_subject(c, o) for c, o in pairs])
    said = ", ".join(f"asked {what} {share:.1%}" for what, share in shown.items())
    print(
        f"{args.count} samples, {args.steps} steps, guidance {args.cfg:g}: {said}, asked subject "
        f"nearest of {len(KNOWN)} {np.mean(places < 1):.1%}, among five {np.mean(places < 5):.1%}"
    )
    truths = [CLIPS.drawn(c) for c in asked[:16]]
    rows = list(zip(_pictures(outs[:16]), _pictures(truths), strict=True))
    rows = [[*rows[i], *rows[i + 1]] for i in range(0, len(rows), 2)]
    write_picture(args.output, labelled_grid(rows, ["base", "asked"] * 2, None, cell=288))


if __name__ == "__main__":
    main()
