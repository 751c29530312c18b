"""Convert 8-bit frames to the [-1, 1] of every network, and back; needs no more than ComfyUI has.

Frames are (F, H, W, 3), uint8, RGB: what files hold. Pixels are (3, F, H, W), float32 in [-1, 1]:
what networks take, in batches (B, 3, F, H, W). A picture is one frame.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Frames = NDArray[np.uint8]


def from_levels(levels: Tensor) -> Tensor:
    """Levels 0 ... 255 of any type and shape -> float32 in [-1, 1]."""
    # In place after the one copy: clips are large.
    return levels.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_levels(pixels: Tensor) -> Tensor:
    """[-1, 1] of any shape -> the nearest levels, uint8; what lies outside is clipped."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def frame_levels(frames: Frames) -> Tensor:
    """Frames (F, H, W, 3) -> levels (3, F, H, W), uint8; a copy, contiguous or not."""
    return torch.from_numpy(np.array(frames, order="C")).permute(3, 0, 1, 2)


def to_pixels(frames: Frames) -> Tensor:
    """Frames (F, H, W, 3) -> pixels (3, F, H, W)."""
    return from_levels(frame_levels(frames))


def to_batch(clips: Iterable[Frames]) -> Tensor:
    """Clips (F, H, W, 3) of one shape -> pixels (B, 3, F, H, W)."""
    return torch.stack([to_pixels(clip) for clip in clips])


def to_frames(pixels: Tensor) -> Frames:
    """Pixels (3, F, H, W), on any device -> frames (F, H, W, 3)."""
    return to_levels(pixels).permute(1, 2, 3, 0).cpu().numpy()


def to_unit(frames: Frames) -> NDArray[np.float32]:
    """Levels of any shape -> [0, 1], in which ComfyUI has pictures and measures compare them."""
    return frames.astype(np.float32) / 255


def from_unit(values: NDArray[np.floating]) -> Frames:
    """[0, 1] of any shape -> the nearest levels; what lies outside is clipped."""
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def to_picture(pixels: Tensor) -> Image.Image:
    """The first frame of pixels (3, F, H, W)."""
    return Image.fromarray(to_frames(pixels[:, :1])[0])
