"""The sizes of the networks that cost depends on, from configurations alone. Loads nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..config import ModelConfig

WORLD_BASES = {
    family: Path(__file__).parents[1] / "world" / name
    for family, name in (("flux", "base"), ("wan", "base_wan"))
}
# Bytes per pixel of a frame that Wan's VAEs take to decode in float32, 2.1's and the 5B's alike;
# from 64 to 192 px large, on a CPU, it was 16,000 to 26,000.
WAN_DECODER = 20_000
# Bytes of CLIP and the VAE, as the hub has them.
SMALL_PARTS = 0.4e9
# FLUX.1-dev in the names of hub repositories, folders and single files.
FLUX_DEV = re.compile(r"flux[._-]?1[._-]?dev", re.IGNORECASE)


@dataclass(frozen=True)
class Network:
    """The sizes of a FLUX transformer that its cost depends on; FLUX.1-dev's by default."""

    width: int = 3072
    double: int = 19
    single: int = 38
    text_width: int = 4096
    packed: int = 64  # latent values per image token
    t5: int = 4_762_310_656  # weights of the text encoder

    networks = 1

    def decoded(self, frames: int) -> float:
        """Bytes per pixel while the VAE decodes, in float32: four maps of 256 channels."""
        return 4 * 4 * 256 * frames

    @property
    def blocks(self) -> int:
        """All blocks, of either kind."""
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


@dataclass(frozen=True)
class WanNetwork:
    """The sizes of one Wan transformer that its cost depends on; T2V-A14B's experts by default."""

    width: int = 5120
    ffn: int = 13_824
    blocks: int = 40
    text_width: int = 4096
    packed: int = 64  # latent values per token
    t5: int = 5_680_660_480  # weights of the text encoder
    networks: int = 2  # experts, of which one at a time is on the device

    def decoded(self, frames: int) -> float:
        """Bytes per pixel while the VAE decodes: frame by frame, and collects them, twice."""
        return WAN_DECODER + 2 * 4 * 3 * frames

    @property
    def parameters(self) -> int:
        """Weights of one network without biases: blocks, time and text embedders, output."""
        blocks = self.blocks * (8 * self.width + 2 * self.ffn) * self.width
        return blocks + (8 * self.width + self.text_width + 2 * self.packed + 256) * self.width

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


WAN_5B = WanNetwork(width=3072, ffn=14_336, blocks=30, packed=192, networks=1)


def network(model: ModelConfig) -> Network | WanNetwork:
    """Sizes from a local folder's config.json files; where there are none, the known models'."""
    path = Path(model.path).expanduser()
    folder = Path(model.components or "").expanduser() if path.is_file() else path
    folder = WORLD_BASES[model.family] if model.path == "world" else folder
    file = folder / "transformer" / "config.json"
    if model.family == "wan":
        return _wan(folder, file, "5B" in path.name.upper())
    if not file.is_file():
        return Network()
    sizes = json.loads(file.read_text(encoding="utf-8"))
    return Network(
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        double=sizes["num_layers"],
        single=sizes["num_single_layers"],
        text_width=sizes["joint_attention_dim"],
        packed=sizes["in_channels"],
        t5=_t5_parameters(folder / "text_encoder_2" / "config.json"),
    )


def _wan(folder: Path, file: Path, small: bool) -> WanNetwork:
    if not file.is_file():
        return WAN_5B if small else WanNetwork()
    sizes = json.loads(file.read_text(encoding="utf-8"))
    return WanNetwork(
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        ffn=sizes["ffn_dim"],
        blocks=sizes["num_layers"],
        text_width=sizes["text_dim"],
        packed=4 * sizes["in_channels"],
        t5=_t5_parameters(folder / "text_encoder" / "config.json", WanNetwork.t5),
        networks=2 if (folder / "transformer_2").is_dir() else 1,
    )


def _t5_parameters(file: Path, default: int = Network.t5) -> int:
    """Embedding, and per layer four attention and three feed-forward matrices."""
    if not file.is_file():
        return default
    c = json.loads(file.read_text(encoding="utf-8"))
    layer = c["d_model"] * (4 * c["num_heads"] * c["d_kv"] + 3 * c["d_ff"])
    return c["vocab_size"] * c["d_model"] + c["num_layers"] * layer


def download_size(name: str, *, transformer: bool) -> float | None:
    """Bytes of a hub model, with or without its transformer; known of FLUX.1-dev alone."""
    if not FLUX_DEV.search(name):
        return None
    net = Network()
    return 2 * (net.t5 + (net.parameters if transformer else 0)) + SMALL_PARTS
