"""The sizes of the networks that cost depends on, from configurations alone. Loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ..config import ModelConfig
from ..family import family_of
from .locate import Description, described

# Bytes of what a base for pictures has beside transformer and large text encoder.
SMALL_PARTS = 0.4e9


class Network(Protocol):
    """What the plan of a run counts with."""

    width: int
    blocks: int  # of all kinds
    text_width: int
    packed: int  # latent values per token
    encoder: int  # weights of the text encoder that takes the most memory
    networks: int  # experts, of which one at a time is on the device
    text_attends: bool  # whether text tokens are in the sequence, or beside it

    @property
    def parameters(self) -> int:
        """Weights of one network without biases: blocks, embedders, output."""

    def lora_parameters(self, rank: int) -> int:
        """Weights of the LoRAs of all networks, on every attention and MLP projection."""

    def sequence(self, text: float, image: float, *, source: bool) -> float:
        """Tokens that attend to each other, of counts of text and of one picture or clip."""

    def forward_flops(self, tokens: float) -> float:
        """FLOPs of one forward of a sequence of so many tokens."""

    def decoded(self, frames: int) -> float:
        """Bytes per pixel while the VAE decodes, in float32."""


class PictureNetwork:
    """What the networks for pictures have in common."""

    networks = 1
    text_attends = True

    def decoded(self, frames: int) -> float:
        """Bytes per pixel while the VAE decodes, in float32: four maps of 256 channels."""
        return 4 * 4 * 256 * frames


def transformer_sizes(model: ModelConfig) -> tuple[Path, dict[str, Any]] | None:
    """The folder that describes a base, and its transformer's configuration; None: not here."""
    folder = described(model)
    if folder is None or not (file := folder / "transformer" / "config.json").is_file():
        return None
    return folder, Description(file)


def network(model: ModelConfig) -> Network:
    """Sizes from a local folder's config.json files; where there are none, the known models'."""
    return family_of(model.family).bases.network(model)


def t5_parameters(folder: Path, default: int) -> int:
    """Weights of a T5 encoder: embedding, and per layer four attention and three MLP matrices."""
    file = folder / "config.json"
    if not file.is_file():
        return default
    c = Description(file)
    layer = c["d_model"] * (4 * c["num_heads"] * c["d_kv"] + 3 * c["d_ff"])
    return c["vocab_size"] * c["d_model"] + c["num_layers"] * layer
