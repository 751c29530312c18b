"""Peak signal-to-noise ratio to the true target: Huynh-Thu and Ghanbari 2008, Electronics Letters
44 (13), 800-801, with the mean squared error over the whole clip."""

from __future__ import annotations

import math

import numpy as np

from ...media.pixels import Frames
from ..metric import Metric, against_truth


def psnr(edited: Frames, target: Frames) -> float:
    """10 log10(255^2 / mean squared difference) over all frames (F, H, W, 3), in dB.

    Higher is nearer; infinite for equal clips.
    """
    if edited.shape != target.shape:
        raise ValueError(f"the result is {edited.shape}, the target {target.shape}")
    error = np.mean((edited.astype(np.float64) - target) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


METRIC = Metric(
    "psnr",
    "PSNR to the true target, dB",
    needs=frozenset({"truths"}),
    build=lambda networks, truths: against_truth("psnr", psnr),
    usual=True,
    place=7,
)
