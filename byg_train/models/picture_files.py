"""Where a text-to-image base is: a diffusers folder, its hub id, or one transformer's file.

For families of one transformer and FLUX's kind of VAE; what is asked here loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from ..config import ModelConfig
from ..family import family_of, part_folder
from .locate import Description, Parts, components, described, download, locate, single_file

VAE_FACTOR = 8  # pixels per latent of FLUX.1's VAE
PATCH = 2  # latents per token, along either side


def parts(config: ModelConfig, *, transformer: bool) -> Parts:
    """Return what is wanted of a folder; beside a single file, the transformer's sizes alone."""
    return {**family_of(config.family).bases.parts, "transformer": transformer}


def resolve(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id: `backbone.resolve_base`."""
    file = single_file(config)
    if file is None:
        return locate(config, config.path, parts(config, transformer=True))
    _beside(config)
    return file


def fetched(config: ModelConfig) -> tuple[Path | None, Path]:
    """The transformer's single file, if it is one, and the folder of all other parts."""
    base = resolve(config)
    file = base if isinstance(base, Path) and base.is_file() else None
    whole = _beside(config) if file else base
    return file, download(whole, config.revision, parts(config, transformer=file is None))


def _beside(config: ModelConfig) -> Path | str:
    """The folder, or hub id, of what a single file does not hold."""
    return locate(config, components(config), parts(config, transformer=False))


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    folder = described(config)
    if folder is None or not (file := part_folder(folder, "vae") / "config.json").is_file():
        return VAE_FACTOR * PATCH
    return vae_factor(Description(file)["block_out_channels"]) * PATCH


def token_counts(config: ModelConfig, width: int, height: int, frames: int = 1) -> tuple[int, int]:
    """Text tokens, and image tokens of one picture of width x height pixels; loads nothing."""
    multiple = pixel_multiple(config)
    return config.text_len, (width // multiple) * (height // multiple)


def boundary(config: ModelConfig) -> None:
    """Return None: there is one network, and no second one to meet."""


def vae_factor(block_out_channels: list[int]) -> int:
    """Pixels per latent, along either side."""
    return 2 ** (len(block_out_channels) - 1)
