"""The sizes of a Wan transformer that its cost depends on. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ...config import ModelConfig
from ..networks import t5_parameters, transformer_sizes
from .files import is_1_3b, is_5b

# Bytes per pixel of a frame that Wan's VAEs take to decode in float32, 2.1's and the 5B's alike;
# from 64 to 192 px large, on a CPU, it was 16,000 to 26,000.
DECODER = 20_000


@dataclass(frozen=True)
class WanNetwork:
    """`models.networks.Network`; one expert of T2V-A14B by default."""

    width: int = 5120
    ffn: int = 13_824
    blocks: int = 40
    text_width: int = 4096
    packed: int = 64  # latent values per token
    encoder: int = 5_680_660_480  # weights of UMT5
    networks: int = 2  # experts, of which one at a time is on the device

    text_attends = False
    kept = 28

    def decoded(self, frames: int) -> float:
        """Bytes per pixel while the VAE decodes: frame by frame, and collects them, twice."""
        return DECODER + 2 * 4 * 3 * frames

    @property
    def parameters(self) -> int:
        """Weights of one network without biases: blocks, time and text embedders, output."""
        blocks = self.blocks * self.largest_block
        return blocks + (8 * self.width + self.text_width + 2 * self.packed + 256) * self.width

    @property
    def largest_block(self) -> int:
        """Any block's weights."""
        return (8 * self.width + 2 * self.ffn) * self.width

    def lora_parameters(self, rank: int) -> int:
        """Weights of the LoRAs of all networks, on every attention and MLP projection."""
        return self.networks * self.blocks * (18 * self.width + 2 * self.ffn) * rank

    def sequence(self, text: float, image: float, *, source: bool) -> float:
        """Tokens that attend to each other; text is seen by cross-attention."""
        return image * (2 if source else 1)

    def forward_flops(self, tokens: float) -> float:
        """FLOPs of one forward with so many tokens, without those of the text's own keys."""
        linear = 2 * self.blocks * (6 * self.width + 2 * self.ffn) * self.width
        return tokens * (linear + self.blocks * 4 * self.width * tokens)


def download_size(name: str, *, transformer: bool) -> None:
    """Return None: it is not known of any Wan."""


WAN_5B = WanNetwork(width=3072, ffn=14_336, blocks=30, packed=192, networks=1)
WAN_1_3B = WanNetwork(width=1536, ffn=8960, blocks=30, networks=1)


def network(model: ModelConfig) -> WanNetwork:
    """Sizes of the folder that describes a base; those of the known models where there is none."""
    described = transformer_sizes(model)
    if described is None:
        return WAN_5B if is_5b(model) else WAN_1_3B if is_1_3b(model) else WanNetwork()
    folder, sizes = described
    return WanNetwork(
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        ffn=sizes["ffn_dim"],
        blocks=sizes["num_layers"],
        text_width=sizes["text_dim"],
        packed=4 * sizes["in_channels"],
        encoder=t5_parameters(folder / "text_encoder", WanNetwork.encoder),
        networks=2 if (folder / "transformer_2").is_dir() else 1,
    )
