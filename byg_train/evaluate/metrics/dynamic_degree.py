"""Dynamic degree: does anything move in the clip? (Table 1, `Dyn. Deg.`)

Huang et al. 2024, VBench, arXiv 2311.17982. Optical flow comes from any network: VBench takes
RAFT-things with 20 iterations, and its threshold belongs to that flow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...media.pixels import Frames
from ..metric import Measure, Metric, Truths
from ..networks import Networks, explained
from ..trackers import Flow, load_raft

RATE = 8  # frames per second that are looked at
TOP = 0.05  # share of the pixels, those that move most


def dynamic_degree(frames: Frames, fps: float, flow: Flow) -> float:
    """1 if the clip is dynamic, 0 if not; the dimension is the mean over clips.

    At about 8 frames per second, a pair of neighbours counts when the mean of its top 5 % of flow
    magnitudes exceeds 6 min(H, W) / 256 pixels; a clip of n such frames is dynamic with
    round(4 n / 16) counts (at least 1, ours: VBench calls a clip of two frames always dynamic).
    NaN for a clip of one frame.
    """
    looked = frames[:: max(1, round(fps / RATE))]
    if len(looked) < 2:
        return math.nan
    threshold = 6 * min(frames.shape[1:3]) / 256
    needed = max(1, round(4 * len(looked) / 16))
    counts = (
        _magnitude(flow(a, b)) > threshold for a, b in zip(looked[:-1], looked[1:], strict=True)
    )
    return float(sum(counts) >= needed)


def _magnitude(field: NDArray) -> float:
    """The mean of the largest 5 % of lengths."""
    lengths = np.sort(np.linalg.norm(field, axis=-1).ravel())
    return float(lengths[-max(1, int(TOP * len(lengths))) :].mean())


def _build(networks: Networks, truths: Truths) -> Measure:
    weights = "torchvision's raft_large"
    with explained("raft", weights, networks.raft, f"{weights} as safetensors"):
        flow = load_raft(networks.raft, networks.device)
    return lambda case: {"dynamic": dynamic_degree(case.edited, case.source.fps, flow)}


METRIC = Metric(
    "dynamic",
    "VBench's dynamic degree",
    needs=frozenset({"clips"}),
    build=_build,
    place=4,
)
