"""What the trainer asks of a model family, and nothing of how it works inside.

Latents are (B, C, F, H, W), F = 1 for images; pixels are (B, 3, F, H, W) in [-1, 1]; t is (B,) in
[0, 1], 1 = noise. Only a backbone knows token layouts, ids, x1000 timesteps and VAE factors.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..family import family_of
from ..machine import resolve_dtype

# Prompt embeddings of a batch: named tensors, batch first, of fixed shape per model. Whole numbers,
# such as how many words there are, stay on the CPU, where they are looked at.
Text = dict[str, Tensor]


class Backbone(Protocol):
    """One model family behind one velocity."""

    experts: nn.ModuleDict  # the networks that get a LoRA, loaded when they are first asked for
    spans: dict[str, tuple[float, float]]  # the times t of each; a micro-batch is within one span
    without_lora: Collection[str]  # experts without a LoRA, which are not shown the source
    on_device: str | None  # the one that is on the device; None before the first is needed
    multiple: int  # pixel sizes must be multiples of this (VAE factor x patch)
    fingerprint: str  # identifies VAE, text encoders and text length; part of every cache key

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, F, H, W) in [-1, 1] -> normalised latents (B, C, F, h, w), float32."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """The inverse: latents -> pixels in [-1, 1], float32."""

    def encode_text(self, texts: list[str]) -> Text:
        """Prompt embeddings of B texts, cut and padded to the model's text length."""

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        text: Text,
        source: Tensor | None = None,
        *,
        guidance: float | None = None,
    ) -> Tensor:
        """v like x_t. `source` (clean latents) joins on the token axis; its output is dropped.

        `guidance` feeds the guidance embedding of distilled models (None: the model has none).
        """

    def outline(self) -> nn.Module:
        """The layers of a network without weights, as its configuration has them."""

    def stay(self) -> None:
        """Move the networks no more: they are where they belong (`streaming.place`)."""

    def drop_encoders(self) -> None:
        """Free text encoders and VAE encoder once everything is cached (called before training)."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Latents or a part of a `Text` on a device, which fetches it by itself while it computes."""
    if not tensor.is_floating_point():
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def load_backbone(config: ModelConfig, device: str) -> Backbone:
    """Build the backbone of `model.family`, of whose code and libraries alone anything loads."""
    config = config.model_copy(update={"dtype": resolve_dtype(config.dtype, device)})
    return family_of(config.family).bases.load(config, device)


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    return family_of(config.family).bases.resolve(config)


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    return family_of(config.family).bases.pixel_multiple(config)
