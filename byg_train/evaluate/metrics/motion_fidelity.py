"""Motion fidelity: do points move as in the source? (Table 1, `Motion Fid.`)

Yatim et al. 2024, "Space-Time Diffusion Features for Zero-Shot Text-Driven Motion Transfer". Tracks
come from any point tracker; the published numbers are CoTracker's on a 55 x 55 grid (its weights
are for non-commercial use, and are not loaded here).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..metric import Case, Measure, Metric, Truths, Values
from ..networks import Direction, Networks, explained
from ..trackers import load_cotracker

# Pixels in one step under which a point stands still.
STILL = 1e-3


class MotionFidelity(NamedTuple):
    """The score, and the number of the result's tracks that never moved and so do not count."""

    score: float  # NaN where nothing moves in one of the clips
    still: int


def motion_fidelity(
    source: NDArray, edited: NDArray, direction: Direction = "edit_to_src"
) -> MotionFidelity:
    """The mean over the result's tracks of the best match among the source's tracks.

    corr(a, b) is the mean over steps of the cosine of the two displacements; a step without motion
    adds 0. All pairs are one matrix product. In [-1, 1]; `symmetric_sum` in [-2, 2]. (The released
    code lowers by 1 the match of a track with its own grid point; the paper has nothing of it.)

    Args:
        source: tracks (N, F, 2) of the source, pixels.
        edited: tracks (M, F, 2) of the result, over the same frames.
        direction: `edit_to_src` is the released code, `symmetric_sum` the formula in print, and
            `symmetric_mean` its half; the values that ByG prints fit the first and the last.
    """
    if source.shape[1:] != edited.shape[1:]:
        raise ValueError(f"source has tracks {source.shape}, the result {edited.shape}")
    u_src, u_edit = _directions(source), _directions(edited)
    corr = u_edit @ u_src.T / (source.shape[1] - 1)  # (M, N)
    moving_src, moving_edit = u_src.any(1), u_edit.any(1)
    still = int((~moving_edit).sum())
    corr = corr[moving_edit][:, moving_src]
    if not corr.size:
        return MotionFidelity(math.nan, still)
    there, back = float(corr.max(1).mean()), float(corr.max(0).mean())
    score = {
        "edit_to_src": there,
        "symmetric_mean": (there + back) / 2,
        "symmetric_sum": there + back,
    }[direction]
    return MotionFidelity(score, still)


def _directions(tracks: NDArray) -> NDArray:
    """Tracks (N, F, 2) -> unit displacements, flat (N, 2 (F - 1)); zero where a point stands."""
    steps = np.diff(np.asarray(tracks, np.float64), axis=1)
    length = np.linalg.norm(steps, axis=-1, keepdims=True)
    return np.where(length > STILL, steps / np.maximum(length, STILL), 0).reshape(len(tracks), -1)


def _build(networks: Networks, truths: Truths) -> Measure:
    with explained("cotracker", networks.cotracker):
        track = load_cotracker(networks.cotracker, networks.device)

    def measure(case: Case) -> Values:
        tracks = track(case.source.frames), track(case.edited)
        fidelity = motion_fidelity(*tracks, networks.motion)
        return {"motion": fidelity.score, "still": fidelity.still / len(tracks[1])}

    return measure


METRIC = Metric(
    "motion",
    "motion fidelity, share of points that stand still",
    ("motion", "still"),
    needs=frozenset({"clips", "cotracker"}),
    build=_build,
    place=3,
)
