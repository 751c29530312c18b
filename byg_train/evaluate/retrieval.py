"""Retrieval: is the result nearer to its own true target than to the targets of others?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .models import unit


def ranks(edited: NDArray, targets: NDArray) -> NDArray[np.int64]:
    """The place (Q,) of every result's own target among all targets by cosine; 0 is first.

    A target that is exactly as near as one's own stands before it, so features that tell nothing
    apart find nothing.

    Args:
        edited: features of the results (Q, D).
        targets: features (N, D), N >= Q; the first Q are the results' own, in order.
    """
    if len(targets) < len(edited):
        raise ValueError(f"{len(targets)} targets for {len(edited)} results")
    likeness = unit(edited) @ unit(targets).T  # (Q, N)
    own = np.diagonal(likeness)[:, None]
    return (likeness >= own).sum(1) - 1  # less itself


def recall(places: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 where the own target is among the first k, else 0: (Q,), to be averaged."""
    return (places < k).astype(np.float64)
