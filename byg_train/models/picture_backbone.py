"""What the backbones for pictures share: one transformer, and FLUX's kind of VAE.

Latents are (B, C, 1, h, w). A family adds its text encoders and its velocity.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ConfigError, ModelConfig
from ..family import family_of
from .frozen import FrozenParts, autoencoder
from .picture_files import PATCH, fetched, vae_factor
from .storage import store


class PictureBackbone(FrozenParts):
    """A `Backbone` of one transformer that draws pictures."""

    def __init__(
        self, config: ModelConfig, folder: Path, load: Callable[[], nn.Module], device: str
    ) -> None:
        from diffusers import AutoencoderKL

        super().__init__(config, folder, lambda: {"transformer": load()}, device)
        self.spans, self.on_device = {"transformer": (0.0, 1.0)}, "transformer"
        self.vae = autoencoder(AutoencoderKL, folder, self.device)
        self.multiple = vae_factor(self.vae.config.block_out_channels) * PATCH

    @classmethod
    def load(cls, config: ModelConfig, device: str) -> PictureBackbone:
        """Load the VAE; transformer and text encoders follow when they are needed."""
        import diffusers

        file, folder = fetched(config)
        kind = getattr(diffusers, family_of(config.family).lora.transformer)
        dtype = getattr(torch, config.dtype)

        def transformer() -> nn.Module:
            if file:
                whole = _from_file(kind, file, folder / "transformer", dtype, config.family)
            else:
                whole = kind.from_pretrained(
                    folder, subfolder="transformer", torch_dtype=dtype, use_safetensors=True
                )
            return store(whole, config, device)

        return cls(config, folder, transformer, device)

    def _loaded(self, networks: nn.ModuleDict) -> None:
        self._placed = False

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 1, H, W) in [-1, 1] -> normalised latents (B, C, 1, h, w), float32."""
        self._one_frame(pixels)
        z, vae = self._mean_latents(pixels[:, :, 0]), self.vae.config
        return ((z - vae.shift_factor) * vae.scaling_factor)[:, :, None]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1, h, w) -> pixels (B, 3, 1, H, W), about [-1, 1], float32.

        Differentiable: critics look at what is decoded.
        """
        self._one_frame(latents)
        z, vae = latents[:, :, 0].to(self.device, self.vae.dtype), self.vae.config
        return self.vae.decode(z / vae.scaling_factor + vae.shift_factor).sample[:, :, None]

    def stay(self) -> None:
        """Move the transformer no more: it is where it belongs."""
        self._placed = True

    def _place(self) -> nn.Module:
        """The transformer, on the device."""
        transformer = self.experts["transformer"]
        if not self._placed:
            transformer.to(self.device)
            self._placed = True
        return transformer

    def _one_frame(self, x: Tensor) -> None:
        """ValueError for what is no image: pixels or latents must be (B, C, 1, H, W)."""
        if x.ndim != 5 or x.shape[2] != 1:
            raise ValueError(f"{self._title} takes images (B, C, 1, H, W), got {tuple(x.shape)}")

    def _latents(self, x: Tensor) -> None:
        """ValueError for what is no latent of an image, or cannot be cut into tokens."""
        self._one_frame(x)
        h, w = x.shape[-2:]
        if h % PATCH or w % PATCH:
            raise ValueError(f"latents of {w} x {h}: {self._title} needs even sizes")

    @property
    def _title(self) -> str:
        return family_of(self.config.family).title


def _from_file(kind: Any, path: Path, wanted: Path, dtype: torch.dtype, family: str) -> nn.Module:
    """A single-file transformer in the original or diffusers' layout; `wanted` describes it."""
    title = family_of(family).title
    try:
        transformer = kind.from_single_file(str(path), config=str(wanted), torch_dtype=dtype)
        absent = [name for name, p in transformer.named_parameters() if p.is_meta]
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is not the {title} transformer that {wanted} describes "
            f"({type(error).__name__}: {error}); wanted the original or diffusers' layout"
        ) from None
    if absent:
        raise ConfigError(
            f"{path} lacks {len(absent)} weights of the {title} transformer that {wanted} "
            f"describes (first: {absent[0]})"
        )
    return transformer
