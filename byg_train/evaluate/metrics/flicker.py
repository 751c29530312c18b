"""Temporal flickering: how much do neighbouring frames differ? (Table 1, `Temp. Flicker`)

Huang et al. 2024, VBench, arXiv 2311.17982. VBench measures still scenes; ByG, as here, all clips.
"""

from __future__ import annotations

import math

import numpy as np

from ...media.pixels import Frames
from ..metric import Metric


def temporal_flicker(frames: Frames) -> float:
    """(255 - mean_f mean |frame_f - frame_f+1|) / 255, in [0, 1]; 1 is a frozen clip.

    NaN for a clip of one frame.
    """
    if len(frames) < 2:
        return math.nan
    pairs = zip(frames[:-1], frames[1:], strict=True)  # one at a time: a long clip is large
    steps = [np.abs(b.astype(np.float32) - a).mean(dtype=np.float64) for a, b in pairs]
    return float((255 - np.mean(steps)) / 255)


METRIC = Metric(
    "flicker",
    "VBench's temporal flickering",
    needs=frozenset({"clips"}),
    build=lambda networks, truths: lambda case: {"flicker": temporal_flicker(case.edited)},
    usual=True,
    place=6,
)
