"""What a base of the tiny world can draw: unselected samples, and how often they are as asked.

python -m tools.world.show demo --output docs/pictures/base.png --count 100
python -m tools.world.show demo_video --output docs/pictures/base_wan.png
python -m tools.world.show demo_z_image --output docs/pictures/base_z_image.png
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from byg_train.config import merge_settings
from byg_train.editing.editor import Editor
from byg_train.evaluate.metrics.retrieval import rank
from byg_train.evaluate.true_pairs import style_statistics
from byg_train.media.grid import labelled_grid
from byg_train.media.pixels import from_unit, to_batch
from byg_train.media.writer import write_picture
from byg_train.models.backbone import load_backbone
from byg_train.models.configured_info import configured_info
from byg_train.world import clips, scenes
from byg_train.world.clips import ground_colour, motion_error
from byg_train.world.demo import WHOLE
from byg_train.world.judge import CLIPS, PICTURES, Frames, Judge, tall
from byg_train.world.names import STYLES

from .lots import base_clip, base_scene

BATCH = 16  # samples at once
# How a scene of the base's share is drawn by lot, and how any scene is.
LOTS = {
    PICTURES: (base_scene, scenes.random_scene),
    CLIPS: (base_clip, clips.random_clip),
}
# Samples of the picture, samples in a row, and pixels of a cell.
SHEETS = {PICTURES: (40, 4, 96), CLIPS: (16, 2, 288)}


def open_editor(preset: str, assignments: Sequence[str] = ()) -> Editor:
    """The bare base of a preset; it samples as the preset says, in float32."""
    config = merge_settings(preset, assignments=["model.dtype=float32", *assignments])
    backbone = load_backbone(config.model, "cpu")
    return Editor(backbone, None, configured_info(config, backbone.multiple))


def sample(editor: Editor, judge: Judge, asked: Sequence[Any], seed: int = 0) -> list[Frames]:
    """Draw the captions of scenes, or film them."""
    results: list[Frames] = []
    for first in range(0, len(asked), BATCH):
        batch = asked[first : first + BATCH]
        like = editor.backbone.encode_pixels(to_batch(map(judge.levels, batch)))
        texts = [judge.caption(scene) for scene in batch]
        pixels = editor.decoded(editor.sample(like, texts, seed=seed + first, role="base"))
        results.extend(((pixels + 1) / 2).permute(0, 2, 3, 4, 1).numpy())
    return results


def nearest(
    judge: Judge,
    scene: Any,
    attribute: str,
    out: Frames,
    apart: Callable[[Frames, Frames], float],
) -> Any:
    """The value of an attribute with which the scene, drawn truly, is nearest to what was drawn."""
    drawn = {v: judge.drawn(replace(scene, **{attribute: v})) for v in judge.values[attribute]}
    return min(drawn, key=lambda value: apart(out, drawn[value]))


def shows_ground(judge: Judge, scene: Any, out: Frames) -> bool:
    """Whether the colour along the edges is nearest to the asked one."""
    found = nearest(judge, scene, "ground", out, _between(ground_colour))
    return found == scene.ground


def shows_style(judge: Judge, scene: Any, out: Frames) -> bool:
    """Whether it is ink exactly where ink was asked, by the style's statistics."""
    mask = judge.world.object_mask(scene)
    mask = mask.reshape(-1, mask.shape[-1])
    apart = _between(lambda frames: style_statistics(tall(frames), mask))
    return (nearest(judge, scene, "style", out, apart) == "ink") == (scene.style == "ink")


def shows_motion(judge: Judge, scene: Any, out: Frames) -> bool:
    """Whether the subject moves most like the asked motion."""
    return nearest(judge, scene, "motion", out, motion_error) == scene.motion


def place_of_subject(judge: Judge, scene: Any, out: Frames) -> int:
    """Place of the asked subject among all known ones in the same scene, by pixels; 0 = first."""
    known = [name for name in judge.world.KNOWN if name != scene.subject]
    others = np.stack([tall(judge.drawn(replace(scene, subject=name))) for name in known])
    return rank(tall(out), tall(judge.drawn(scene)), others)


def _between(measure: Callable[[Frames], np.ndarray]) -> Callable[[Frames, Frames], float]:
    return lambda a, b: float(np.linalg.norm(measure(a) - measure(b)))


def _lot(rng: random.Random, judge: Judge, style: str | None) -> Any:
    """A scene of the base's share; with a style, one that leaves it by the style alone."""
    of_base, any_scene = LOTS[judge]
    if style is None:
        return of_base(rng)
    while judge.world.withheld(scene := any_scene(rng, style=style)) != {"style"}:
        pass
    return scene


def _summary(judge: Judge, asked: Sequence[Any], outs: Sequence[Frames]) -> str:
    pairs = list(zip(asked, outs, strict=True))
    checks = [shows_ground, shows_style] + [shows_motion] * ("motion" in judge.values)
    shares = [
        f"asked {check.__name__.removeprefix('shows_')} "
        f"{np.mean([check(judge, *pair) for pair in pairs]):.1%}"
        for check in checks
    ]
    places = np.array([place_of_subject(judge, *pair) for pair in pairs])
    return (
        f"{len(asked)} samples: {', '.join(shares)}, asked subject nearest of "
        f"{len(judge.world.KNOWN)} {np.mean(places < 1):.1%}, among five {np.mean(places < 5):.1%}"
    )


def _strip(frames: Frames) -> Image.Image:
    """The picture, or the first, middle and last frame of a clip beside each other."""
    shown = sorted({0, len(frames) // 2, len(frames) - 1})
    return Image.fromarray(from_unit(np.concatenate([frames[i] for i in shown], axis=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=WHOLE)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument(
        "--set", action="append", default=[], help="a setting, such as sample.steps=8"
    )
    parser.add_argument(
        "--withheld", choices=STYLES, help="only names that the base never saw in this style"
    )
    args = parser.parse_args()
    judge, rng = WHOLE[args.preset].judge, random.Random(0)
    asked = [_lot(rng, judge, args.withheld) for _ in range(args.count)]
    outs = sample(open_editor(args.preset, args.set), judge, asked)
    print(_summary(judge, asked, outs))
    number, columns, cell = SHEETS[judge]
    shown = zip(map(_strip, outs[:number]), (_strip(judge.drawn(s)) for s in asked), strict=False)
    cells = [picture for pair in shown for picture in pair]
    rows = [cells[i : i + 2 * columns] for i in range(0, len(cells), 2 * columns)]
    write_picture(args.output, labelled_grid(rows, ["base", "asked"] * columns, None, cell=cell))


if __name__ == "__main__":
    main()
