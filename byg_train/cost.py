"""What a run costs: forwards, FLOPs, memory and disk, from token counts. Loads nothing.

F is one forward of the edit network (text, target and source tokens), r F one forward of the base
(text and target tokens). All results are estimates; nothing is measured on the machine at hand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .config import ModelConfig, TrainConfig

WORLD_BASE = Path(__file__).parent / "world" / "base"


class Gpu(NamedTuple):
    """A data sheet: peak dense bf16 TFLOP/s, and bytes of memory."""

    tflops: float
    memory: float


GPUS = {
    "RTX 3090": Gpu(71, 24e9),
    "RTX 4090": Gpu(165, 24e9),
    "RTX 5090": Gpu(209, 32e9),
    "A100": Gpu(312, 80e9),
    "H100": Gpu(989, 80e9),
}
# The share of the peak that a run is assumed to sustain.
SUSTAINED = 0.4
# Two cores with bf16 instructions on the embedded world.
CPU_TFLOPS = 0.3

# Tensors of a token's width that backward keeps per block, and that recomputing one block needs.
KEPT_PER_BLOCK, RECOMPUTED = 25, 50
# Bytes per pixel while the VAE decodes, in float32: four maps of 256 channels at full size.
DECODED = 4 * 4 * 256
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
    folder = WORLD_BASE if model.path == "world" else folder
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


class StepCost(NamedTuple):
    """Cost of one item in F, by kind of step."""

    full: float
    identity: float
    mean: float  # with the share of identity-only steps
    supervised: float  # a step on true pairs, with source tokens


def step_cost(config: TrainConfig, r: float) -> StepCost:
    """Algorithm 1 in forwards: n rollout steps, three gradient passes, four base predictions.

    At weight 0 there is no identity pass. A gradient pass of a LoRA costs 2 F (no gradients of base
    weights), 3 F with checkpointing. With classifier-free guidance the prior asks the base twice as
    often.
    """
    gradient, m = (3.0 if config.model.gradient_checkpointing else 2.0), config.method
    priors = 4 if m.prior_guidance == 1 else 8
    full = config.rollout.steps + (3 if m.lambda_id else 2) * gradient + priors * r
    share = m.identity_probability
    return StepCost(full, gradient, share * gradient + (1 - share) * full, gradient)


class Compute(NamedTuple):
    """Compute of a run on pictures of one token count."""

    forward: float  # F in FLOPs
    r: float
    step: StepCost
    total: float  # FLOPs of the whole run: the steps, and the shortest warm-up

    def seconds(self, tflops: float) -> float:
        """Time of the whole run at a sustained speed."""
        return self.total / (tflops * 1e12)


def compute(config: TrainConfig, net: Network | WanNetwork, text: int, image: float) -> Compute:
    """`text` and `image` tokens of one item; `image` may be a mean over buckets."""
    forward = net.forward_flops(net.sequence(text, image, source=True))
    r = net.forward_flops(net.sequence(text, image, source=False)) / forward
    step = step_cost(config, r)
    steps = config.train.steps * step.mean + config.warmup.min_steps * step.identity
    return Compute(forward, r, step, steps * config.train.global_batch * forward)


class Memory(NamedTuple):
    """Bytes on the training device, without the framework's own share."""

    weights: float
    adapter: float  # LoRA weights, gradients and optimiser in float32
    ema: float
    activations: float  # what one graph keeps for backward
    working: float  # one block while it is recomputed
    encoding: float  # T5, before the weights come to the device
    decoding: float  # the VAE on one held-out sample: they are decoded one by one

    @property
    def step(self) -> float:
        """While a step is taken."""
        return self.weights + self.adapter + self.ema + self.activations + self.working

    @property
    def look(self) -> float:
        """While samples are decoded; no graph is kept then."""
        return self.weights + self.adapter + self.ema + self.decoding

    @property
    def total(self) -> float:
        """The largest of what is needed at one time."""
        return max(self.encoding, self.step, self.look)


def memory(
    config: TrainConfig, net: Network | WanNetwork, text: int, image: int, pixels: int
) -> Memory:
    """`text` and `image` tokens and `pixels` of the largest item.

    The staged step holds one graph at a time.
    """
    size = 2 if config.model.dtype == "bfloat16" else 4
    lora = net.lora_parameters(config.lora.rank)
    moments = 8 if config.optimizer.name == "adamw" else 2
    tokens = net.sequence(text, image, source=True)
    token = config.train.batch_size * tokens * net.width * size
    checkpointing = config.model.gradient_checkpointing
    return Memory(
        weights=net.parameters * size,
        adapter=lora * (8 + moments),
        ema=0 if config.method.ema_decay is None else lora * 4,
        activations=token * net.blocks * (1 if checkpointing else KEPT_PER_BLOCK),
        working=token * RECOMPUTED if checkpointing else 0,
        encoding=net.t5 * size,
        decoding=pixels * DECODED,
    )


class Disk(NamedTuple):
    """Bytes that a run brings to the disk."""

    cache: float
    checkpoints: float
    lora_files: float
    download: float | None = 0  # of a base on the hub; None: not known


def disk(
    config: TrainConfig, net: Network | WanNetwork, text: int, images: list[float], texts: int
) -> Disk:
    """`images`: image tokens of every picture; `texts`: how many different texts are embedded."""
    lora, train = net.lora_parameters(config.lora.rank), config.train
    size = 2 if config.model.dtype == "bfloat16" else 4
    adam = 2 if config.optimizer.name == "adamw" else 0.5
    copies = 1 + adam + (0 if config.method.ema_decay is None else 1)
    return Disk(
        # Latents are float32; embeddings stay in the type of the encoders.
        cache=4 * sum(images) * net.packed + size * texts * text * net.text_width,
        # One more than is kept: the oldest goes only after the newest is whole.
        checkpoints=4 * lora * copies * (train.keep_checkpoints + 1),
        lora_files=2 * lora * (train.steps // train.checkpoint_every + 1),
    )
