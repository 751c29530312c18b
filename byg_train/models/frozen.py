"""What the backbones of all families do with a base's frozen parts: load, prepare, compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .checkpointing import boundaries, use_checkpointing
from .fast_attention import use_fast_attention
from .fast_gelu import use_fast_gelu
from .quiet import without_bars


def frozen(part: nn.Module) -> nn.Module:
    """A part that never trains."""
    return part.requires_grad_(False).eval()


def prepare(network: nn.Module, config: ModelConfig) -> nn.Module:
    """A diffusers transformer, frozen, and as memory and speed are set."""
    frozen(network)
    use_checkpointing(network, config)
    if config.compile:
        # A graph per role, gradient mode, source, shape: above 8, the default, it stays eager.
        torch._dynamo.config.recompile_limit = 64
        network.compile_repeated_blocks()
    else:
        use_fast_gelu(network)
        use_fast_attention(network)
    return network


def autoencoder(kind: Any, folder: Path, device: torch.device) -> nn.Module:
    """A VAE of a class of diffusers. Float32 whatever the transformer is: small, and run once."""
    vae = kind.from_pretrained(
        folder, subfolder="vae", torch_dtype=torch.float32, use_safetensors=True
    )
    return frozen(vae).to(device)


def text_encoder(kind: Any, path: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A text encoder of a class of transformers."""
    with without_bars():
        encoder = kind.from_pretrained(path, dtype=dtype, use_safetensors=True)
    return frozen(encoder).to(device)


@contextmanager
def precision(config: ModelConfig, device: torch.device) -> Iterator[None]:
    """bf16 products over float32 inputs and LoRA weights; plain arithmetic for float32.

    And what backward needs is kept where it is set to be.
    """
    dtype = getattr(torch, config.dtype)
    whole = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
    with whole, boundaries(config, device):
        yield


def at_least_single(v: Tensor, x_t: Tensor) -> Tensor:
    """A velocity in float32, or in float64 where the noisy latents are."""
    return v.to(torch.promote_types(x_t.dtype, torch.float32))
