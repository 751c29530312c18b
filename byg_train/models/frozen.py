"""What the backbones of all families do with a base's frozen parts: load, prepare, compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import ModelConfig
from .fast_gelu import use_fast_gelu
from .quiet import without_bars


def frozen(part: nn.Module) -> nn.Module:
    """A part that never trains."""
    return part.requires_grad_(False).eval()


def prepare(network: nn.Module, config: ModelConfig) -> nn.Module:
    """A diffusers transformer, frozen, and as memory and speed are set."""
    frozen(network)
    if config.gradient_checkpointing:
        # Active whenever gradients are on, also in eval mode. Reentrant checkpointing would cut
        # the graph: no input of a block needs a gradient, only the LoRA inside does.
        network.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))
    if config.compile:
        # A graph per role, gradient mode, source, shape: above 8, the default, it stays eager.
        torch._dynamo.config.recompile_limit = 64
        network.compile_repeated_blocks()
    else:
        use_fast_gelu(network)
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


def precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """bf16 products over float32 inputs and LoRA weights; plain arithmetic for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def at_least_single(v: Tensor, x_t: Tensor) -> Tensor:
    """A velocity in float32, or in float64 where the noisy latents are."""
    return v.to(torch.promote_types(x_t.dtype, torch.float32))
