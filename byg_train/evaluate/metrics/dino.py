"""DINO similarity: how much of the source is still there? (Table 1, `DINO Sim.`)

Features of Caron et al. 2021, arXiv 2104.14294, compared frame by frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..metric import Measure, Metric, Truths
from ..networks import Networks, unit


def dino_similarity(source: NDArray, edited: NDArray) -> float:
    """The mean over frames of cos(d(source_f), d(edited_f)), in [-1, 1]; 1 is a copy.

    Args:
        source: DINO class tokens of the source's frames (F, D).
        edited: those of the result's frames; the same number at the same rate.
    """
    if source.shape != edited.shape:
        raise ValueError(f"source has features {source.shape}, the result {edited.shape}")
    return float(np.mean(np.sum(unit(source) * unit(edited), axis=-1)))


def _build(networks: Networks, truths: Truths) -> Measure:
    embed = networks.loaded_dino
    return lambda case: {"dino": dino_similarity(embed(case.source.frames), embed(case.edited))}


METRIC = Metric(
    "dino",
    "DINO similarity to the source, frame by frame",
    build=_build,
    usual=True,
    place=2,
)
