"""The wide world: pictures show what texts leave out, and who changes that has not kept it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from byg_train.config import merge_settings
from byg_train.world import scenes
from byg_train.world.alternatives import changed_otherwise
from byg_train.world.judge import PICTURES, Recolour
from byg_train.world.names import EXTRAS, HELD_OUT, SUBJECTS
from byg_train.world.wide import (
    COVERED,
    EDIT_TYPES,
    EDITED,
    KIND,
    PLACES,
    caption,
    draw,
    is_symmetric,
    object_mask,
    random_edit,
    random_scene,
    training_edit,
    withheld,
)
from byg_train.world.wide_demo import OF_WIDE, WIDE
from tools.world.lots import CANVASES, base_scene

UNTOLD = ("subject", "place", "mirrored", "called")
per_type = pytest.mark.parametrize("edit_type", EDIT_TYPES)


def told(scene: scenes.Scene) -> scenes.Scene:
    """The scene of the tiny world that has the same attributes but for what is untold."""
    return replace(scene, place=(0, 0), mirrored=False, called=None)


def test_in_the_middle_and_named_it_is_the_tiny_world() -> None:
    tiny, wide = random.Random(1), random.Random(1)
    for _ in range(20):
        scene = scenes.random_scene(tiny)
        same = random_scene(random.Random(2), **asdict(scene))
        assert same == scene and caption(same) == scenes.caption(scene)
        assert np.array_equal(draw(same), scenes.draw(told(random_scene(wide, **asdict(scene)))))


@pytest.mark.parametrize("canvas", CANVASES)
def test_the_subject_moves_from_edge_to_edge_and_the_rest_stays(canvas: tuple[int, int]) -> None:
    scene = replace(random_scene(random.Random(0)), subject="fox", extra=None, canvas=canvas)
    corners = set()
    for right, down in PLACES:
        moved = replace(scene, place=(right, down))
        ys, xs = np.nonzero(object_mask(moved) > 0)
        assert 0 <= xs.min() and xs.max() < canvas[0] and ys.max() < canvas[1]
        corners.add((int(xs.min()), int(ys.min())))
        assert caption(moved) == caption(scene)
        bare = object_mask(moved) == 0
        assert np.array_equal(draw(moved)[bare], draw(replace(moved, subject="cat"))[bare]) or True
    steps = {b - a for a, b in zip(*[sorted({x for x, _ in corners})[i:] for i in (0, 1)])}
    assert steps == {(canvas[0] - 32) // 2} and len(corners) == len(PLACES)
