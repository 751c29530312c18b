"""Motion fidelity and dynamic degree by closed form, loops, and the released code's quirks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byg_train.evaluate.metrics.dynamic_degree import dynamic_degree
from byg_train.evaluate.metrics.motion_fidelity import motion_fidelity


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tracks(n: int = 50, frames: int = 9, seed: int = 0) -> np.ndarray:
    return rng(seed).normal(size=(n, frames, 2)).cumsum(1) * 3


def by_hand(source: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """corr of every pair (M, N), in loops."""
    corr = np.zeros((len(edited), len(source)))
    for i, a in enumerate(edited):
        for j, b in enumerate(source):
            u, v = np.diff(a, axis=0), np.diff(b, axis=0)
            cos = (u * v).sum(1) / (np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1))
            corr[i, j] = cos.mean()
    return corr


def test_motion_fidelity_is_the_best_match_of_every_track() -> None:
    source, edited = tracks(seed=1), tracks(30, seed=2)
    corr = by_hand(source, edited)
    there, back = corr.max(1).mean(), corr.max(0).mean()
    assert motion_fidelity(source, edited).score == pytest.approx(there)
    assert motion_fidelity(source, edited, "symmetric_mean").score == pytest.approx(
        (there + back) / 2
    )
    assert motion_fidelity(source, edited, "symmetric_sum").score == pytest.approx(there + back)


def test_motion_fidelity_knows_motion_alone() -> None:
    source = tracks()
    shuffled = source[rng().permutation(len(source))]
    assert motion_fidelity(source, shuffled * 2.5 + 40).score == pytest.approx(1)
    line = np.arange(9.0)[None, :, None] * np.array([1.0, 2.0])
    assert motion_fidelity(line, line[:, ::-1]).score == pytest.approx(-1)


def test_standing_tracks_are_counted_and_have_no_say() -> None:
    source, edited = tracks(), tracks(seed=2)
    still = np.zeros((4, 9, 2)) + 7
    plain = motion_fidelity(source, edited)
    found = motion_fidelity(np.concatenate([still, source]), np.concatenate([edited, still[:3]]))
    assert found.still == 3
    assert found.score == pytest.approx(plain.score)
    nothing = motion_fidelity(source, still)
    assert math.isnan(nothing.score)
    assert nothing.still == 4


def test_a_pause_in_a_track_is_no_match() -> None:
    moving = np.arange(5.0)[None, :, None] * np.array([1.0, 0.0])
    paused = moving.copy()
    paused[:, 3:] = paused[:, 2:3]  # two of four steps
    assert motion_fidelity(moving, paused).score == pytest.approx(0.5)


# ---------------------------------------------------------------- dynamic degree


def moving(frames: int, counts: int, length: float, share: float = 0.06) -> object:
    """A flow whose first `counts` pairs move `share` of the pixels by `length`."""
    calls = iter(range(frames))

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        field = np.zeros((*a.shape[:2], 2))
        if next(calls) < counts:
            field.reshape(-1, 2)[: math.ceil(share * field[..., 0].size)] = [
                0.6 * length,
                0.8 * length,
            ]
        return field

    return flow


def film(frames: int, height: int = 60, width: int = 104) -> np.ndarray:
    return np.broadcast_to(np.zeros(3, np.uint8), (frames, height, width, 3))


# 11.25 pixels at the paper's 480 x 832, of which these frames have an eighth.
THRESHOLD = 11.25 / 8


@pytest.mark.parametrize(
    ("counts", "length", "share", "wanted"),
    [
        (10, THRESHOLD * 1.01, 0.06, 1.0),
        (9, THRESHOLD * 1.01, 0.06, 0.0),  # 41 frames are looked at: 10 counts are needed
        (40, THRESHOLD * 0.99, 0.06, 0.0),
        (40, THRESHOLD * 1.9, 0.025, 0.0),  # half of the top 5 % stands still
        (40, THRESHOLD * 2.1, 0.025, 1.0),
    ],
)
def test_dynamic_degree_of_81_frames_at_16_fps(
    counts: int, length: float, share: float, wanted: float
) -> None:
    assert dynamic_degree(film(81), 16, moving(81, counts, length, share)) == wanted


def test_what_counts_as_motion_at_480_pixels() -> None:
    for length, wanted in ((11.24, 0.0), (11.26, 1.0)):
        assert dynamic_degree(film(3, 480, 480), 8, moving(3, 2, length)) == wanted


def test_dynamic_degree_looks_at_about_8_frames_per_second() -> None:
    seen = []

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        seen.append((int(a[0, 0, 0]), int(b[0, 0, 0])))
        return np.zeros((*a.shape[:2], 2))

    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    for fps, steps in ((24, [(0, 3), (3, 6), (6, 9)]), (5, [(i, i + 1) for i in range(9)])):
        seen.clear()
        assert dynamic_degree(frames, fps, flow) == 0
        assert seen == steps
    assert math.isnan(dynamic_degree(frames[:1], 8, flow))
    assert dynamic_degree(frames[:2], 8, flow) == 0  # no count is needed by the formula: ours 1
