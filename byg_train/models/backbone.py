"""What the trainer asks of a model family, and nothing of how it works inside.

Latents are (B, C, F, H, W), F = 1 for images; pixels are (B, 3, F, H, W) in [-1, 1]; t is (B,) in
[0, 1], 1 = noise. Only a backbone knows token layouts, ids, x1000 timesteps and VAE factors.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..config import ModelConfig

# Family -> the module that knows its files without loading them.
FILES = {"flux": ".flux.backbone", "wan": ".wan.files"}

# Prompt embeddings of a batch: named tensors, batch first, of fixed shape per model.
Text = dict[str, Tensor]


class Backbone(Protocol):
    """One model family behind one velocity."""

    experts: nn.ModuleDict  # the networks that get a LoRA: {"transformer": ...} for FLUX
    spans: dict[str, tuple[float, float]]  # the times t of each; a micro-batch is within one span
    resident: str | None  # the one that is on the device; None before the first is needed
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
    """Build the backbone that `model.family` names. Families load lazily."""
    if config.family == "flux":
        from .flux.backbone import FluxBackbone

        return FluxBackbone.load(config, device)
    if config.family == "wan":
        from .wan.backbone import WanBackbone

        return WanBackbone.load(config, device)
    raise ValueError(f"model.family {config.family!r} is unknown; known: flux, wan")


# ---------------------------------------------------------------- before loading


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    return _files(config).resolve_base(config)


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    return _files(config).pixel_multiple(config)


def boundary(config: ModelConfig) -> float | None:
    """The time at which two experts meet; None of one network. Loads nothing, needs no network."""
    return _files(config).boundary(config) if config.family == "wan" else None


def token_counts(config: ModelConfig, width: int, height: int, frames: int) -> tuple[int, int]:
    """Text tokens, and tokens of a picture or clip (its source has as many); loads nothing."""
    size = (width, height) if config.family == "flux" else (width, height, frames)
    return _files(config).token_counts(config, *size)


def _files(config: ModelConfig) -> ModuleType:
    return import_module(FILES[config.family], __package__)
