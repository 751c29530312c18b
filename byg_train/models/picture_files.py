"""Where a text-to-image base is: a diffusers folder, its hub id, or one transformer's file.

For families of one transformer and FLUX's kind of VAE; what is asked here loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import ConfigError, ModelConfig
from .description import Description
from .locate import Parts, described, download, locate, single_file

VAE_FACTOR = 8  # pixels per latent of FLUX.1's VAE
PATCH = 2  # latents per token, along either side


@dataclass(frozen=True)
class PictureFiles:
    """The parts of a family's bases."""

    encoders: Parts
    """All but the transformer; part of a diffusers folder -> whether its weights are needed."""
    example: str
    """A hub id, for messages."""

    def parts(self, *, transformer: bool) -> Parts:
        """All that is wanted of a folder; beside a single file the transformer's sizes alone."""
        return {**self.encoders, "transformer": transformer}

    def resolve(self, config: ModelConfig) -> Path | str:
        """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

        ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
        """
        file = single_file(config)
        if file is None:
            return locate(config, config.path, self.parts(transformer=True))
        self._components(config)
        return file

    def fetched(self, config: ModelConfig) -> tuple[Path | None, Path]:
        """The transformer's single file, if it is one, and the folder of all other parts."""
        base = self.resolve(config)
        file = base if isinstance(base, Path) and base.is_file() else None
        whole = self._components(config) if file else base
        return file, download(whole, config.revision, self.parts(transformer=file is None))

    def _components(self, config: ModelConfig) -> Path | str:
        """The folder, or hub id, of what a single file does not hold."""
        if config.components is None:
            raise ConfigError(
                f"model.path {config.path!r} is a single file, which holds the transformer alone: "
                f"set model.components to a hub id or folder with the VAE, text encoders and "
                f"tokenizers (such as {self.example})"
            )
        return locate(config, config.components, self.parts(transformer=False))


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    folder = described(config)
    if folder is None or not (file := folder / "vae" / "config.json").is_file():
        return VAE_FACTOR * PATCH
    return vae_factor(Description(file)["block_out_channels"]) * PATCH


def token_counts(config: ModelConfig, width: int, height: int, frames: int = 1) -> tuple[int, int]:
    """Text tokens, and image tokens of one picture of width x height pixels; loads nothing."""
    multiple = pixel_multiple(config)
    return config.text_len, (width // multiple) * (height // multiple)


def vae_factor(block_out_channels: list[int]) -> int:
    """Pixels per latent, along either side."""
    return 2 ** (len(block_out_channels) - 1)
