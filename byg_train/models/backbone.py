"""What the trainer asks of a model family, and nothing of how it works inside.

Latents are (B, C, F, H, W), F = 1 for images; pixels are (B, 3, F, H, W) in [-1, 1]; t is (B,) in
[0, 1], 1 = noise. Only a backbone knows token layouts, ids, x1000 timesteps and VAE factors.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ..config import ModelConfig
from ..family import family_of
from ..machine import resolve_dtype

# Prompt embeddings of a batch: named tensors, batch first, of fixed shape per model.
Text = dict[str, Tensor]


class Backbone(Protocol):
    """One model family behind one velocity."""

    experts: nn.ModuleDict  # the networks that get a LoRA: {"transformer": ...} for FLUX
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

    def drop_encoders(self) -> None:
        """Free text encoders and VAE encoder once everything is cached (called before training)."""


def load_backbone(config: ModelConfig, device: str) -> Backbone:
    """Build the backbone of `model.family`, of whose code and libraries alone anything loads."""
    config = config.model_copy(update={"dtype": resolve_dtype(config.dtype, device)})
    return family_of(config.family).bases.load(config, device)


# ---------------------------------------------------------------- before loading


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    return family_of(config.family).bases.resolve(config)


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    return family_of(config.family).bases.pixel_multiple(config)


def boundary(config: ModelConfig) -> float | None:
    """The time at which two experts meet; None of one network. Loads nothing, needs no network."""
    return family_of(config.family).bases.boundary(config)


def token_counts(config: ModelConfig, width: int, height: int, frames: int) -> tuple[int, int]:
    """Text tokens, and tokens of a picture or clip (its source has as many); loads nothing."""
    return family_of(config.family).bases.token_counts(config, width, height, frames)
