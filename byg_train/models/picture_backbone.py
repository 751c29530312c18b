"""What the backbones for pictures share: one transformer, and FLUX's kind of VAE.

Latents are (B, C, 1, h, w). A family adds its text encoders and its velocity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..config import ConfigError, ModelConfig
from ..family import family_of
from .frozen import autoencoder, precision, prepare
from .locate import fingerprint
from .picture_files import PATCH, PictureFiles, vae_factor
from .storage import store

if TYPE_CHECKING:
    from .backbone import Text


class PictureBackbone(ABC):
    """A `Backbone` of one transformer that draws pictures."""

    files: ClassVar[PictureFiles]

    def __init__(
        self, config: ModelConfig, folder: Path, transformer: nn.Module, device: str
    ) -> None:
        from diffusers import AutoencoderKL

        self.config, self.device, self._folder = config, torch.device(device), folder
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.experts = nn.ModuleDict({"transformer": prepare(transformer, config)})
        self.spans, self.on_device = {"transformer": (0.0, 1.0)}, "transformer"
        self.without_lora: Collection[str] = ()
        self._placed = False
        self.vae = autoencoder(AutoencoderKL, folder, self.device)
        self.multiple = vae_factor(self.vae.config.block_out_channels) * PATCH
        self.fingerprint = fingerprint(folder, self.files.encoders, config.text_len, config.dtype)
        self._encoders: Any = None

    @classmethod
    def load(cls, config: ModelConfig, device: str) -> PictureBackbone:
        """Load transformer and VAE; text encoders follow when the first text is encoded."""
        import diffusers

        file, folder = cls.files.fetched(config)
        kind = getattr(diffusers, family_of(config.family).lora.transformer)
        dtype = getattr(torch, config.dtype)
        if file:
            transformer = _from_file(kind, file, folder / "transformer", dtype, config.family)
        else:
            transformer = kind.from_pretrained(
                folder, subfolder="transformer", torch_dtype=dtype, use_safetensors=True
            )
        return cls(config, folder, store(transformer, config, device), device)

    # ------------------------------------------------------------ pictures and words

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 1, H, W) in [-1, 1] -> normalised latents (B, C, 1, h, w), float32.

        The posterior's mean, not a draw: a picture has one latent, in the cache, in `edit` and in
        ComfyUI, which takes the mean too.
        """
        self._one_frame(pixels)
        vae = self.vae.to(self.device)  # after `drop_encoders` a part of it may be elsewhere
        z = vae.encode(pixels[:, :, 0].to(self.device, vae.dtype)).latent_dist.mean
        return ((z - vae.config.shift_factor) * vae.config.scaling_factor)[:, :, None]

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1, h, w) -> pixels (B, 3, 1, H, W), about [-1, 1], float32."""
        self._one_frame(latents)
        z, vae = latents[:, :, 0].to(self.device, self.vae.dtype), self.vae.config
        return self.vae.decode(z / vae.scaling_factor + vae.shift_factor).sample[:, :, None]

    def encode_text(self, texts: list[str]) -> Text:
        """Prompt embeddings of B texts; the encoders are loaded on first use.

        They are large, and a run whose cache is full never needs them.
        """
        if self._encoders is None:
            self._encoders = self._load_encoders()
        with torch.no_grad():
            return self._encode(self._encoders, texts)

    @abstractmethod
    def _load_encoders(self) -> Any:
        """Tokenizers and text encoders."""

    @abstractmethod
    def _encode(self, encoders: Any, texts: list[str]) -> Text:
        """Prompt embeddings of B texts by what `_load_encoders` gave."""

    def drop_encoders(self) -> None:
        """Free the device of text encoders and VAE encoder; they come back when used again.

        Only then does the transformer go there: beside them it would need their memory more.
        """
        self._encoders = None
        self.vae.encoder.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._transformer()

    # ------------------------------------------------------------ for the velocity

    def _transformer(self) -> nn.Module:
        """The transformer, on the device."""
        if not self._placed:
            self.experts.to(self.device)
            self._placed = True
        return self.experts["transformer"]

    def _precision(self) -> Any:
        return precision(self.config, self.device)

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
