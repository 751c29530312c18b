"""Where a FLUX's parts are, and its sizes before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from ...config import ConfigError, ModelConfig
from ..locate import described, locate, single_file

# Part of a diffusers folder -> whether its weights are needed.
ENCODERS = {"vae": True, "text_encoder": True, "text_encoder_2": True}
ENCODERS |= {"tokenizer": False, "tokenizer_2": False}
WHOLE = {**ENCODERS, "transformer": True}
# Beside a single-file transformer: of the folder's own one only the configuration.
COMPONENTS = {**ENCODERS, "transformer": False}
VAE_FACTOR = 8  # pixels per latent of FLUX.1's VAE
PATCH = 2  # latents per token, along either side


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    file = single_file(config)
    if file is None:
        return locate(config, config.path, WHOLE)
    components(config)
    return file


def components(config: ModelConfig) -> Path | str:
    """The folder, or hub id, of what a single file does not hold."""
    if config.components is None:
        raise ConfigError(
            f"model.path {config.path!r} is a single file, which holds the transformer alone: set "
            f"model.components to a hub id or folder with the VAE, text encoders and tokenizers "
            f"(such as black-forest-labs/FLUX.1-dev)"
        )
    return locate(config, config.components, COMPONENTS)


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    folder = described(config)
    if folder is None or not (file := folder / "vae" / "config.json").is_file():
        return VAE_FACTOR * PATCH
    return vae_factor(json.loads(file.read_text())["block_out_channels"]) * PATCH


def token_counts(config: ModelConfig, width: int, height: int, frames: int = 1) -> tuple[int, int]:
    """Text tokens, and image tokens of one picture of width x height pixels; loads nothing."""
    multiple = pixel_multiple(config)
    return config.text_len, (width // multiple) * (height // multiple)


def vae_factor(block_out_channels: list[int]) -> int:
    """Pixels per latent, along either side."""
    return 2 ** (len(block_out_channels) - 1)
