"""Measurements for ByG Debug. Torch only; pictures are (H, W, 3) in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Share of the source's variance below which an edit is none; the trainer's alarm has the same.
COLLAPSE = 0.02
# Correlation of outlines below which little of the source is left.
DRIFT = 0.2
# Relative change of a prediction below which a LoRA does nothing.
NO_EFFECT = 1e-3

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
LIGHT = (0.299, 0.587, 0.114)  # weights of red, green and blue (Rec. 601)


def sharpness(picture: Tensor) -> float:
    """Variance of the Laplacian of the luminance: fine detail, and noise."""
    kernel = torch.tensor(LAPLACIAN).to(picture)[None, None]
    return F.conv2d(_light(picture)[None, None], kernel).var().item()


def kept(picture: Tensor, source: Tensor) -> float:
    """How much a picture keeps a source's outlines: correlation of gradients, -1 to 1."""
    a, b = (_outlines(p).flatten() for p in (picture, source))
    a, b = a - a.mean(), b - b.mean()
    return ((a @ b) / (a.norm() * b.norm()).clamp(min=1e-8)).item()


def distance(a: Tensor, b: Tensor) -> float:
    """Mean squared difference of latents, as a share of b's variance."""
    return ((a - b).square().mean() / b.var().clamp(min=1e-8)).item()


def change(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return ((a - b).norm() / b.norm().clamp(min=1e-8)).item()


def direction(v_edit: Tensor, v_src: Tensor, v_tgt: Tensor) -> tuple[float, float]:
    """Cosine between edit and caption direction (section 4.2), and the strength of the latter.

    Returns:
        cos(v_edit - v_src, v_tgt - v_src) and |v_tgt - v_src| / |v_src|.
    """
    ours, captions = (v_edit - v_src).flatten(), (v_tgt - v_src).flatten()
    cosine = F.cosine_similarity(ours, captions, dim=0, eps=1e-8).item()
    return cosine, change(v_tgt, v_src)


def heat(a: Tensor, b: Tensor, gain: float = 3.0) -> Tensor:
    """Show |a - b| as a heat map: black, red, yellow, white."""
    level = ((a - b).abs().mean(-1) * gain).clamp(0, 1) * 3
    return torch.stack([(level - i).clamp(0, 1) for i in range(3)], dim=-1)


def _light(picture: Tensor) -> Tensor:
    return picture @ torch.tensor(LIGHT).to(picture)


def _outlines(picture: Tensor) -> Tensor:
    light = _light(picture)
    dx, dy = light[1:, 1:] - light[1:, :-1], light[1:, 1:] - light[:-1, 1:]
    return (dx.square() + dy.square()).sqrt()
