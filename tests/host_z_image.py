"""A small random Z-Image pipeline of sizes that ComfyUI's classes take, in diffusers' layout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from diffusers import ZImageTransformer2DModel
from tiny_z_image import written
from torch import nn
from z_image_cases import CHANNELS, WORDS


@cache
def base() -> Path:
    """The folder; built once, never changed."""
    sizes = {"intermediate_size": 128, "num_attention_heads": 1, "head_dim": 128}
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return written("host", transformer, hidden_size=WORDS, rope_parameters=rope, **sizes)


def transformer() -> ZImageTransformer2DModel:
    """2 blocks, and one refiner of either kind; the smallest width with ComfyUI's feed-forward."""
    network = ZImageTransformer2DModel(
        in_channels=CHANNELS, dim=192, n_layers=2, n_refiner_layers=1, n_heads=3, n_kv_heads=3,
        cap_feat_dim=WORDS, axes_dims=[16, 24, 24], axes_lens=[256, 64, 64],
    )  # fmt: skip
    return drawn(network, seed=0)


def drawn(network: nn.Module, seed: int) -> nn.Module:
    """With weights of a seed, of which queries and keys have about unit variance.

    The hosts' norms of those differ in an epsilon that would show on smaller ones. Pad tokens,
    which diffusers starts at zero, are no different from others.
    """
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(network.named_parameters()):
            noise = torch.randn(weight.shape, generator=g)
            if weight.ndim > 1 and "pad_token" not in name:
                noise = noise * weight.shape[1] ** -0.5
            elif weight.ndim == 1:
                noise = 0.1 * noise + ("norm" in name or name == "cap_embedder.0.weight")
            weight.copy_(noise)
    return network
