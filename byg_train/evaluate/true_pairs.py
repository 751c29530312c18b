"""Compare results with their true counterparts, in worlds that can render them.

Pictures are float arrays (H, W, 3) in [0, 1]; masks are (H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .metrics.retrieval import rank

Picture = NDArray[np.float32]


def error(out: Picture, target: Picture) -> float:
    """Root mean squared difference to the true target, in [0, 1]."""
    return float(np.sqrt(np.mean((out - target) ** 2)))


def progress(out: NDArray, source: NDArray, target: NDArray) -> float:
    """How far an attribute moved from the source's value to the target's: 0 not at all, 1 exactly.

    The projection <out - source, target - source> / |target - source|^2; above 1 is overshoot.
    """
    step = (target - source).ravel()
    return float((out - source).ravel() @ step / max(step @ step, 1e-12))


def remaining_error(out: NDArray, source: NDArray, target: NDArray) -> float:
    """Remaining distance to the target, |out - target| / |source - target|; 0 is exact."""
    return float(np.linalg.norm(out - target) / max(np.linalg.norm(source - target), 1e-6))


def mean_colour(picture: Picture, mask: NDArray) -> NDArray:
    """Mean RGB under a mask, (3,)."""
    return (picture * mask[..., None]).sum((0, 1)) / max(mask.sum(), 1e-6)


def style_statistics(picture: Picture, mask: NDArray) -> NDArray:
    """Mean chroma (max - min over RGB) and the share of near-black and near-white pixels, (2,)."""
    chroma = picture.max(-1) - picture.min(-1)
    extreme = (chroma < 0.15) & ((picture.max(-1) < 0.25) | (picture.min(-1) > 0.8))
    area = max(mask.sum(), 1e-6)
    return np.array([(chroma * mask).sum() / area, (extreme * mask).sum() / area])


def edit_score(out: Picture, truth: Picture, undone: NDArray) -> float:
    """1 if a result is nearer to its truth than to everything that is not the edit, else 0.

    `undone` (N, H, W, 3) holds the source, the source recoloured as well as a filter can, and the
    truths of other edits of the same kind. So neither a copy nor a tinted copy scores.
    """
    return float(rank(out, truth, undone) == 0)


def keep_score(out: Picture, own: NDArray, others: NDArray) -> float:
    """1 if a result is nearer to its own scene than to any other, else 0; a copy scores 1.

    Args:
        out: the result.
        own: the scene before and after the edit (2, H, W, 3).
        others: the same two pictures of scenes that differ in something that should stay.
    """
    return float(rank(out, own, others) == 0)


def joint_score(edit: float, keep: float) -> float:
    """The geometric mean; for a single edit, 1 only if it is made and the rest is kept."""
    return (edit * keep) ** 0.5


def _features(pictures: NDArray) -> NDArray:
    r, g, b = np.moveaxis(pictures.reshape(-1, 3).astype(np.float64), 1, 0)
    return np.stack([np.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], 1)


class ColourMap:
    """The best global recolouring: a quadratic map of RGB, fitted on true pairs by least squares.

    No tint, curve or filter that ignores the picture's content can do better.
    """

    def __init__(self, sources: NDArray, targets: NDArray) -> None:
        """Fit on pictures (N, H, W, 3) of training items and their counterparts."""
        a, y = _features(sources), targets.reshape(-1, 3).astype(np.float64)
        self.weights = np.linalg.solve(a.T @ a + 1e-3 * np.eye(a.shape[1]), a.T @ y)

    def __call__(self, picture: Picture) -> Picture:
        """Recolour one picture."""
        out = (_features(picture) @ self.weights).reshape(picture.shape)
        return out.clip(0, 1).astype(np.float32)


@dataclass(frozen=True)
class Score:
    """Means over the queries of one edit type by one method."""

    edit: float  # `edit_score`
    keep: float  # `keep_score`
    joint: float  # `joint_score` of every query
    top5: float  # the true counterpart is among the five nearest of 150
    attribute: float  # progress of the changed attribute, 1 = the true target's
    remaining_error: float  # of the changed attribute, as `remaining_error`
    error: float  # to the true target
    queries: int


S = TypeVar("S", bound=Score)


def mean_score(scores: Sequence[S]) -> S:
    """The mean of the scores of single edits."""
    rows = [asdict(score) for score in scores]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return type(scores[0])(**means | {"queries": len(scores)})


def goals_met(score: Score, copy: Score, recoloured: Score) -> dict[str, bool]:
    """The goals of an edit type and whether each is met; copies and tints fail by design."""
    return {
        "finds the true counterpart (top 5 of 150 >= 0.8)": score.top5 >= 0.8,
        "attribute within a quarter of the gap": abs(score.attribute - 1) <= 0.25,
        "nearer to the truth than a copy": score.error < copy.error,
        "nearer than the best recoloured copy": score.error < recoloured.error,
    }
