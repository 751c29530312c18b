"""The sizes of a Z-Image transformer that its cost depends on. Loads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...config import ModelConfig
from ..locate import Description
from ..networks import SMALL_PARTS, PictureNetwork, transformer_sizes
from .layout import BLOCK, padded

# Z-Image and Z-Image-Turbo in the names of hub repositories, folders and single files.
Z_IMAGE = re.compile(r"z[._-]?image", re.IGNORECASE)
EMBEDDED_TIMES = 256  # width of what modulation is made of, at most


@dataclass(frozen=True)
class ZImageNetwork(PictureNetwork):
    """`models.networks.Network`; that of Z-Image by default."""

    width: int = 3840
    blocks: int = 30
    refiners: int = 2  # of either kind: of images, and of texts
    text_width: int = 2560
    packed: int = 64  # latent values per image token
    encoder: int = 4_022_000_000  # weights of Qwen3

    @property
    def largest_block(self) -> int:
        """Any block's weights, with its modulation."""
        return self._projections + 4 * min(self.width, EMBEDDED_TIMES) * self.width

    @property
    def ffn(self) -> int:
        """The width inside of the feed-forward network."""
        return self.width * 8 // 3

    @property
    def _projections(self) -> int:
        """Weights of the attention and feed-forward network of a block."""
        return (4 * self.width + 3 * self.ffn) * self.width

    @property
    def parameters(self) -> int:
        """Weights without biases: blocks, modulation, time and text embedders, output."""
        times = min(self.width, EMBEDDED_TIMES)
        modulated, plain = self.blocks + self.refiners, self.refiners
        blocks = modulated * self.largest_block
        blocks += plain * self._projections
        embedders = (self.text_width + 2 * self.packed + times) * self.width + 1024 * (256 + times)
        return blocks + embedders

    def lora_parameters(self, rank: int) -> int:
        """Weights of a LoRA on attention and feed-forward network of every block, no refiner's."""
        return self.blocks * (11 * self.width + 3 * self.ffn) * rank

    def sequence(self, text: float, image: float, *, source: bool) -> float:
        """Tokens that attend to each other: whole blocks, and one in place of a source's text."""
        return padded(text) + padded(image) * (2 if source else 1) + (BLOCK if source else 0)

    def forward_flops(self, tokens: float) -> float:
        """FLOPs of one forward with so many tokens; as if the refiners saw all of them, once."""
        depth = self.blocks + self.refiners
        return tokens * depth * (2 * self._projections + 4 * self.width * tokens)


def network(model: ModelConfig) -> ZImageNetwork:
    """Sizes of the folder that describes a base; Z-Image's where there is none here."""
    described = transformer_sizes(model)
    if described is None:
        return ZImageNetwork()
    folder, sizes = described
    return ZImageNetwork(
        width=sizes["dim"],
        blocks=sizes["n_layers"],
        refiners=sizes["n_refiner_layers"],
        text_width=sizes["cap_feat_dim"],
        packed=4 * sizes["in_channels"],
        encoder=_qwen_parameters(folder / "text_encoder" / "config.json"),
    )


def _qwen_parameters(file: Path) -> int:
    """Weights of a Qwen3: embedding, and per layer four attention and three MLP matrices."""
    if not file.is_file():
        return ZImageNetwork.encoder
    c = Description(file)
    heads = 2 * (c["num_attention_heads"] + c["num_key_value_heads"]) * c["head_dim"]
    layer = c["hidden_size"] * (heads + 3 * c["intermediate_size"])
    return c["vocab_size"] * c["hidden_size"] + c["num_hidden_layers"] * layer


def download_size(name: str, *, transformer: bool) -> float | None:
    """Bytes of a hub model in bf16, with or without its transformer; known of Z-Image alone."""
    if not Z_IMAGE.search(name):
        return None
    net = ZImageNetwork()
    return 2 * (net.encoder + (net.parameters if transformer else 0)) + SMALL_PARTS
