"""FLUX.1's tokens: 2 x 2 patches of latents (B, C, 1, h, w), and where each one stands."""

from __future__ import annotations

import torch
from torch import Tensor

from ..picture_files import PATCH


def pack(x: Tensor) -> Tensor:
    """(B, C, 1, h, w), h and w even -> tokens (B, h/2 * w/2, 4C); a token is C x 2 x 2."""
    b, c, _, h, w = x.shape
    x = x.reshape(b, c, h // PATCH, PATCH, w // PATCH, PATCH)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // PATCH) * (w // PATCH), c * PATCH**2)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `pack`."""
    b, _, d = tokens.shape
    x = tokens.reshape(b, h // PATCH, w // PATCH, d // PATCH**2, PATCH, PATCH)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(b, d // PATCH**2, 1, h, w)


def position_ids(x: Tensor, first: int) -> Tensor:
    """(first, row, column) of every token, (N, 3). Float32: bf16 is exact up to 256 only."""
    h, w = x.shape[-2] // PATCH, x.shape[-1] // PATCH
    ids = torch.zeros(h, w, 3, device=x.device)
    ids[..., 0] = first
    ids[..., 1] = torch.arange(h, device=x.device)[:, None]
    ids[..., 2] = torch.arange(w, device=x.device)
    return ids.reshape(h * w, 3)
