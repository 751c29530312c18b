"""The measures against true counterparts, and the gate that a tinted copy must not pass."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from byg_train.evaluate.true_pairs import (
    ColourMap,
    Score,
    error,
    gate,
    miss,
    progress,
    rank,
    style_statistics,
)
from byg_train.world.demo import prepare
from byg_train.world.measure import KINDS, Recolour, attribute, measure, query
from byg_train.world.names import HELD_OUT, KNOWN
from byg_train.world.scenes import Edit, draw

RNG = np.random.default_rng(0)


def _picture(scene: object) -> np.ndarray:
    return draw(scene).astype(np.float32) / 255


def test_progress_is_the_projection_on_the_way_to_the_target() -> None:
    source, target = np.array([0.0, 1.0]), np.array([2.0, 1.0])
    for share in (-0.5, 0.0, 0.25, 1.0, 1.6):
        out = source + share * (target - source)
        assert progress(out, source, target) == pytest.approx(share)
        assert progress(out + np.array([0, 9.0]), source, target) == pytest.approx(share)
        assert miss(out, source, target) == pytest.approx(abs(1 - share))
        assert miss(out + np.array([0, 9.0]), source, target) > 4


def test_error_and_rank() -> None:
    a = np.zeros((4, 4, 3), np.float32)
    assert error(a, a) == 0
    assert error(a, a + 0.5) == pytest.approx(0.5)
    others = np.stack([a + d for d in (0.1, 0.3, 0.6)])
    assert rank(a, a + 0.2, others) == 1
    assert rank(a, a, others) == 0
    assert rank(a, a + 0.9, others) == 3


def test_a_colour_map_finds_any_quadratic_recolouring() -> None:
    source = RNG.random((5, 8, 8, 3)).astype(np.float32)
    target = 0.2 + 0.3 * source[..., ::-1] + 0.3 * source**2
    fitted = ColourMap(source, target)
    assert error(fitted(source[0]), target[0]) < 1e-3


def test_style_statistics_tell_ink_from_colour() -> None:
    mask = np.ones((2, 2))
    ink = np.array([[[0, 0, 0], [1, 1, 1]], [[0.1, 0.1, 0.1], [0.95, 0.95, 0.95]]], np.float32)
    assert style_statistics(ink, mask) == pytest.approx([0, 1])
    red = np.broadcast_to(np.array([0.9, 0.2, 0.2], np.float32), (2, 2, 3))
    assert style_statistics(red, mask) == pytest.approx([0.7, 0])


@pytest.mark.parametrize("label", KINDS)
def test_the_attribute_is_0_for_a_copy_and_1_for_the_truth(label: str) -> None:
    rng = random.Random(3)
    for _ in range(5):
        edit = query(rng, label)
        assert edit.source.subject in HELD_OUT
        assert attribute(edit, _picture(edit.source)) == pytest.approx((0, 1), abs=1e-6)
        assert attribute(edit, _picture(edit.target)) == pytest.approx((1, 0), abs=1e-6)


def _overlay(edit: Edit) -> np.ndarray:
    """A tint that the gate's own colour maps do not hold: the source, half its target's colour."""
    target = _picture(edit.target)
    return (0.5 * _picture(edit.source) + 0.5 * target.mean((0, 1))).astype(np.float32)


def test_the_truth_passes_the_gate_and_copy_and_tinted_copies_fail_it() -> None:
    recolour = Recolour()
    methods = {
        "copy": lambda label, edits: [_picture(e.source) for e in edits],
        "recoloured": lambda label, edits: [recolour(label, e) for e in edits],
        "overlaid": lambda label, edits: [_overlay(e) for e in edits],
        "truth": lambda label, edits: [_picture(e.target) for e in edits],
    }
    scores, _ = measure(methods, queries=6)
    for label, rows in scores.items():
        passed = {
            name: all(gate(score, rows["copy"], rows["recoloured"]).values())
            for name, score in rows.items()
        }
        wanted = {"copy": False, "recoloured": False, "overlaid": False, "truth": True}
        assert passed == wanted, label


def test_the_best_recolouring_knows_both_values_of_the_attribute() -> None:
    recolour, edits = Recolour(), [query(random.Random(i), "background") for i in range(12)]
    done = [recolour("background", e) for e in edits]
    went = [attribute(e, out)[0] for e, out in zip(edits, done, strict=True)]
    assert np.mean(went) == pytest.approx(1, abs=0.2)
    assert np.mean([error(o, _picture(e.target)) for o, e in zip(done, edits, strict=True)]) < 0.12


def test_overshoot_fails_the_gate() -> None:
    copy, tint = Score(1, 0, 1, 0.5, 9), Score(1, 0.9, 0.3, 0.4, 9)
    good = Score(0.9, 1.1, 0.2, 0.2, 9)
    assert all(gate(good, copy, tint).values())
    for worse in ({"top5": 0.7}, {"attribute": 1.3}, {"attribute": 0.7}, {"error": 0.45}):
        assert not all(gate(replace(good, **worse), copy, tint).values())


def test_the_demo_data_is_unpaired_and_repeatable(tmp_path: object) -> None:
    a, b = (prepare(tmp_path / name, items=40) for name in "ab")
    assert (a / "metadata.jsonl").read_bytes() == (b / "metadata.jsonl").read_bytes()
    lines = (a / "metadata.jsonl").read_text()
    train = [line for line in lines.splitlines() if '"train"' in line]
    words = {w for line in train for w in line.replace('"', " ").replace(".", " ").split()}
    assert words & set(KNOWN)
    assert not words & set(HELD_OUT)
    assert lines.count('"file_name"') == len(list(a.glob("*.png")))
