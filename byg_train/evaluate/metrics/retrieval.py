"""Retrieval: is the result nearer to its own true target than to the targets of others?

recall@k, the share of edits whose own target is among the k nearest, is in [0, 1]; by chance k / N.
The usual measure of image retrieval, by cosine of features or by squared distance of pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..metric import Case, Measure, Metric, Truths, Values
from ..networks import Networks, unit
from ..tasks import read_clip


def ranks(edited: NDArray, targets: NDArray) -> NDArray[np.int64]:
    """The place (Q,) of every result's own target among all targets by cosine; 0 is first.

    Args:
        edited: features of the results (Q, D).
        targets: features (N, D), N >= Q; the first Q are the results' own, in order.
    """
    if len(targets) < len(edited):
        raise ValueError(f"{len(targets)} targets for {len(edited)} results")
    likeness = unit(edited) @ unit(targets).T  # (Q, N)
    return _before(np.diagonal(likeness)[:, None], likeness) - 1  # less itself


def rank(out: NDArray, own: NDArray, others: NDArray) -> int:
    """The place of a result's own target among others (N, H, W, 3) by squared distance; 0 = first.

    Args:
        out: the result (H, W, 3).
        own: what it should be; of several (M, H, W, 3), the nearest counts.
        others: what it should not be.
    """
    likeness = -_squared(own.reshape(-1, *out.shape), out).min()
    return int(_before(likeness, -_squared(others, out)))


def _squared(pictures: NDArray, out: NDArray) -> NDArray:
    """Squared distances (N,) of pictures (N, H, W, 3) to one; equal pictures have equal ones."""
    apart = (pictures - out).reshape(len(pictures), -1)
    return np.einsum("nd,nd->n", apart, apart)


def recall(places: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 where the own target is among the first k, else 0: (Q,), to be averaged."""
    return (places < k).astype(np.float64)


def _before(own: NDArray, all_of_them: NDArray) -> NDArray[np.int64]:
    """Count targets that are at least as similar as the own one, so that ties count against it."""
    return (all_of_them >= own).sum(-1)


def _build(networks: Networks, truths: Truths) -> Measure:
    """Compare the mean of the frames' features with those of all true targets."""
    embed, names = networks.loaded_dino, list(truths)
    gallery = np.stack([embed(read_clip(truths[name]).frames).mean(0) for name in names])

    def measure(case: Case) -> Values:
        if case.truth is None:
            return {}
        own = names.index(case.task.name)
        ordered = np.concatenate([gallery[own : own + 1], np.delete(gallery, own, 0)])
        place = ranks(embed(case.edited).mean(0)[None], ordered)
        return {f"recall@{k}": float(recall(place, k)[0]) for k in (1, 5)}

    return measure


METRIC = Metric(
    "retrieval",
    "retrieval of the true target among all, by DINO",
    ("recall@1", "recall@5"),
    needs=frozenset({"truths"}),
    build=_build,
    usual=True,
    place=10,
)
