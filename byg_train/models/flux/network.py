"""The sizes of a FLUX transformer that its cost depends on. Loads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...config import ModelConfig
from ..networks import SMALL_PARTS, PictureNetwork, t5_parameters, transformer_sizes

# FLUX.1-dev in the names of hub repositories, folders and single files.
FLUX_DEV = re.compile(r"flux[._-]?1[._-]?dev", re.IGNORECASE)


@dataclass(frozen=True)
class FluxNetwork(PictureNetwork):
    """`models.networks.Network`; FLUX.1-dev's by default."""

    width: int = 3072
    double: int = 19
    single: int = 38
    text_width: int = 4096
    packed: int = 64  # latent values per image token
    encoder: int = 4_762_310_656  # weights of T5

    kept = 36

    @property
    def largest_block(self) -> int:
        """A double block's weights."""
        return 36 * self.width**2

    @property
    def blocks(self) -> int:
        """The number of blocks of both kinds."""
        return self.double + self.single

    def sequence(self, text: float, image: float, *, source: bool) -> float:
        """Tokens that attend to each other."""
        return text + image * (2 if source else 1)

    @property
    def parameters(self) -> int:
        """Weights without biases: blocks, time, guidance and text embedders, output."""
        blocks = (36 * self.double + 15 * self.single + 5) * self.width**2
        return blocks + (self.text_width + 2 * self.packed + 1280) * self.width

    def lora_parameters(self, rank: int) -> int:
        """Weights of a LoRA on every attention and MLP projection."""
        return (36 * self.double + 17 * self.single) * self.width * rank

    def forward_flops(self, tokens: float) -> float:
        """FLOPs of one forward with so many tokens."""
        linear = 2 * self.blocks * 12 * self.width**2
        attention = self.blocks * 4 * self.width * tokens
        return tokens * (linear + attention)


def network(model: ModelConfig) -> FluxNetwork:
    """Sizes of the folder that describes a base; FLUX.1-dev's where there is none here."""
    described = transformer_sizes(model)
    if described is None:
        return FluxNetwork()
    folder, sizes = described
    return FluxNetwork(
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        double=sizes["num_layers"],
        single=sizes["num_single_layers"],
        text_width=sizes["joint_attention_dim"],
        packed=sizes["in_channels"],
        encoder=t5_parameters(folder / "text_encoder_2", FluxNetwork.encoder),
    )


def download_size(name: str, *, transformer: bool) -> float | None:
    """Bytes of a hub model, with or without its transformer; known of FLUX.1-dev alone."""
    if not FLUX_DEV.search(name):
        return None
    net = FluxNetwork()
    return 2 * (net.encoder + (net.parameters if transformer else 0)) + SMALL_PARTS
