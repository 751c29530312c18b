"""What a base is trained on: scenes and clips of its share of the tiny world alone, by lot."""

from __future__ import annotations

import random
from collections.abc import Callable

from byg_train.world.clips import Clip, random_clip
from byg_train.world.clips import withheld as withheld_of_clip
from byg_train.world.scenes import SIZE, Scene, random_scene, withheld

# Width, height of the canvases a base sees; all are whole tokens (8 px) and near SIZE squared.
CANVASES = ((SIZE, SIZE), (56, 40), (40, 56))


def base_scene(
    rng: random.Random,
    canvas: tuple[int, int] = CANVASES[0],
    draw_lot: Callable[..., Scene] = random_scene,
) -> Scene:
    """A scene for training the base: only combinations of the base's share."""
    while withheld(scene := draw_lot(rng, canvas=canvas)):
        pass
    return scene


def base_clip(rng: random.Random) -> Clip:
    """A clip for training the base: only combinations of the base's share."""
    while withheld_of_clip(clip := random_clip(rng)):
        pass
    return clip
