"""Helpers around `conftest.tiny_base`: 1 double and 2 single blocks, small enough for float64."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers import transformer_flux
from torch import Tensor

from byg_train.config import LoraSettings, ModelConfig
from byg_train.core.roles import EditBatch, Roles
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank

TEXT_LEN = 8
# Latents of 6 x 4 are 24 x 16 pixels and 3 x 2 tokens.
HEIGHT, WIDTH = 24, 16
T = torch.tensor([0.9, 0.35])


def config(path: Path, **changes: object) -> ModelConfig:
    """Float32, no checkpointing, unless `changes` say otherwise."""
    plain = {"path": str(path), "dtype": "float32", "text_len": TEXT_LEN}
    return ModelConfig(**{**plain, "gradient_checkpointing": False, **changes})


def load(path: Path, **changes: object) -> FluxBackbone:
    """The tiny backbone on the CPU, with its networks."""
    backbone = FluxBackbone.load(config(path, **changes), "cpu")
    assert backbone.experts  # loaded when they are asked for
    return backbone


def text(seed: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random prompt embeddings."""
    g = torch.Generator().manual_seed(seed)
    return {
        "prompt_embeds": torch.randn(batch, TEXT_LEN, 24, generator=g, dtype=dtype),
        "pooled": torch.randn(batch, 24, generator=g, dtype=dtype),
    }


def latents(seed: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random latents (B, 4, 1, 6, 4)."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, 1, 6, 4, generator=g, dtype=dtype)


def edit_batch(dtype: torch.dtype = torch.float32) -> EditBatch:
    """Two random training tuples."""
    return EditBatch(latents(1, dtype=dtype), *(text(s, dtype=dtype) for s in (2, 3, 4, 5)))


def velocity(backbone: FluxBackbone) -> Tensor:
    """v at fixed random inputs, with a source."""
    with torch.no_grad():
        return backbone.velocity(latents(1), T, text(2), latents(7), guidance=2.0)


def make_bank(
    backbone: FluxBackbone, decay: float | None = 0.9, *, rank: int = 4, **settings: object
) -> LoraBank:
    """A LoRA over the backbone, seed 0."""
    return LoraBank(backbone.experts, LoraSettings(rank=rank, **settings), decay, seed=0)


def randomise(bank: LoraBank) -> None:
    """Random A and B for both adapters, each its own."""
    g = torch.Generator().manual_seed(0)
    state, counts = bank.state_dict()
    drawn = {k: 0.1 * torch.randn(v.shape, generator=g).to(v) for k, v in state.items()}
    bank.load_state_dict(drawn, counts)


def make_roles(backbone: FluxBackbone, bank: LoraBank) -> Roles:
    """Guidance 1 for the editor, 2 for the base."""
    edit, base = (partial(backbone.velocity, guidance=g) for g in (1.0, 2.0))
    return bank.roles(edit, base)


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest relative error of any tensor."""
    pairs = zip(some, others, strict=True)
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


def exact_rotary(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers rotates in float32; equalities of float64 gradients need it in float64."""

    def rotary(x: Tensor, freqs: tuple[Tensor, Tensor], sequence_dim: int) -> Tensor:
        cos, sin = (f[None, :, None].to(x) for f in freqs)
        real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
        return x * cos + torch.stack([-imaginary, real], -1).flatten(-2) * sin

    monkeypatch.setattr(transformer_flux, "apply_rotary_emb", rotary)
