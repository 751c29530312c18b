"""Structural similarity to the true target: Wang et al. 2004, Gaussian window of sigma 1.5."""

from __future__ import annotations

import torch

from ...media.pixels import Frames
from ..metric import Metric, against_truth

WINDOW = 11


def ssim(edited: Frames, target: Frames) -> float:
    """The mean of the local index over frames (F, H, W, 3), channels and places.

    (2 m_a m_b + C1) (2 cov_ab + C2) / ((m_a^2 + m_b^2 + C1) (var_a + var_b + C2)) with
    C1 = 0.01^2, C2 = 0.03^2 on [0, 1]. In [-1, 1]; 1 for equal clips.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if edited.shape != target.shape:
        raise ValueError(f"the result is {edited.shape}, the target {target.shape}")
    if min(edited.shape[1:3]) < WINDOW:
        height, width = edited.shape[1:3]
        raise ValueError(f"{width} x {height} pixels; SSIM's window needs {WINDOW} on either side")
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255 for x in (edited, target))
    return float(structural_similarity_index_measure(a, b, data_range=1.0))


METRIC = Metric(
    "ssim",
    "SSIM to the true target",
    needs=frozenset({"truths"}),
    build=lambda networks, truths: against_truth("ssim", ssim),
    usual=True,
    place=8,
)
