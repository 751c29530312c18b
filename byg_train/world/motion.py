"""How the subject of a clip moves, measured on its frames; the tiny world's true motion is known.

Frames are float arrays (F, H, W, 3) in [0, 1] of one subject on a ground of one colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Distance from the ground's colour, of 1.7 at most, from which on a pixel is the subject's.
APART = 0.2
RIM = 2  # pixels along the edges, which subjects hardly reach


def ground_colour(frames: NDArray) -> NDArray:
    """The median colour along the edges of all frames, (3,)."""
    rim = np.ones(frames.shape[1:3], bool)
    rim[RIM:-RIM, RIM:-RIM] = False
    return np.median(frames[:, rim].reshape(-1, 3), axis=0)


def track(frames: NDArray) -> NDArray:
    """Track the middle of the subject, (F, 2): x and y from the picture's middle, pixels.

    A frame without a subject counts as one in the middle.
    """
    height, width = frames.shape[1:3]
    subject = np.linalg.norm(frames - ground_colour(frames), axis=-1) > APART
    area = subject.sum((1, 2))
    y, x = np.mgrid[:height, :width]
    middles = [
        (subject * (at - (size - 1) / 2)).sum((1, 2)) / np.maximum(area, 1)
        for at, size in ((x, width), (y, height))
    ]
    return np.stack(middles, 1)


def motion_error(out: NDArray, truth: NDArray) -> float:
    """How far a subject strays from the true motion, root mean square over the frames, pixels.

    Where it stands does not count, so neither does a style that draws more of it on one side.
    """
    apart = track(out) - track(truth)
    apart -= apart.mean(0)
    return float(np.sqrt((apart**2).sum(1).mean()))
