"""What a run costs: forwards, FLOPs, memory and disk, from token counts. Loads nothing.

F is one forward of the edit network (text, target and source tokens), r F one forward of the base
(text and target tokens). All results are estimates; nothing is measured on the machine at hand.
"""

from __future__ import annotations

from typing import NamedTuple

from ..config import TrainConfig
from ..family import family_of
from ..models.networks import Network, network
from ..objectives import SUPERVISED, objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import Objective


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
# Two cores with bf16 instructions on the embedded world; 0.085 over a demo of 400 steps, 376 s.
CPU_TFLOPS = 0.1

# Bytes of a number; "auto", where no machine has resolved it, is what all these GPUs compute in.
DTYPE_BYTES = {"bfloat16": 2, "float32": 4, "auto": 2}
# Tensors of a token's width that backward keeps per block, where a family has measured no other.
KEPT_PER_BLOCK = 30
# Bytes of a weight in a block as `model.storage` keeps it; "bf16" means `model.dtype`.
STORED_BYTES = {"fp8": 1, "int8": 1, "nf4": 4.13 / 8}


def trained_experts(config: TrainConfig) -> list[str]:
    """The networks that get a LoRA, as far as this is known without loading them."""
    family = family_of(config.model.family)
    experts = family.experts if network(config.model).networks > 1 else ("transformer",)
    return [expert for expert in experts if config.train.trains(expert)]


def _lora_parameters(config: TrainConfig, net: Network) -> int:
    """Weights of the LoRAs of all networks that get one."""
    of_all = net.lora_parameters(config.lora.rank)
    return of_all if config.train.expert == "both" else of_all // net.networks


class StepCost(NamedTuple):
    """Cost of one item in F, by kind of step."""

    full: float
    identity: float
    mean: float  # with the share of identity-only steps
    supervised: float  # a step on true pairs, with source tokens


def step_cost(config: TrainConfig, r: float) -> StepCost:
    """What the run's objective asks of the networks, in forwards.

    A gradient pass of a LoRA costs 2 F (no gradients of base weights), 3 F with checkpointing. With
    classifier-free guidance the base is asked twice as often.
    """
    gradient = 2 + _checkpointed(config)
    base = r if config.method.prior_guidance == 1 else 2 * r

    def cost(objective: Objective) -> float:
        calls = objective.calls(config)
        return calls.gradients * gradient + calls.edit + calls.ema + calls.base * base

    full, identity, supervised = map(cost, (objective_of(config), IDENTITY, SUPERVISED))
    share = config.method.identity_share
    return StepCost(full, identity, share * identity + (1 - share) * full, supervised)


def validation_cost(config: TrainConfig) -> float:
    """Forwards (in F) to validate one held-out item: edits both ways, a guess, two measures."""
    s = config.sample
    guided = s.cfg != 1 or s.cfg_low not in (None, 1)
    return 2 * s.steps * (2 if guided else 1) + config.rollout.steps + 3


def _checkpointed(config: TrainConfig) -> float:
    """The share of the blocks that compute themselves again in backward."""
    return config.model.checkpointed_blocks if config.model.gradient_checkpointing else 0.0


class Compute(NamedTuple):
    """Compute of a run on pictures of one token count."""

    forward: float  # F in FLOPs
    r: float
    step: StepCost
    total: float  # FLOPs of the whole run: the steps, and the shortest warm-up

    def seconds(self, tflops: float) -> float:
        """Time of the whole run at a sustained speed."""
        return self.total / (tflops * 1e12)


def compute(config: TrainConfig, net: Network, text: int, image: float) -> Compute:
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
    working: float  # one block while it is recomputed, and weights while they are no 8 or 4 bits
    encoding: float  # the text encoder, before the weights come to the device
    decoding: float  # the VAE on one held-out sample: they are decoded one by one
    host: float  # of main memory: experts that wait for their turn, and activations put there

    @property
    def step(self) -> float:
        """Bytes in use while a step is taken."""
        return self.weights + self.adapter + self.ema + self.activations + self.working

    @property
    def validation(self) -> float:
        """Bytes in use while samples are decoded, when no graph is kept."""
        return self.weights + self.adapter + self.ema + self.decoding

    @property
    def total(self) -> float:
        """The largest of what is needed at one time."""
        return max(self.encoding, self.step, self.validation)


def memory(config: TrainConfig, net: Network, text: int, image: int, pixels: int) -> Memory:
    """`text` and `image` tokens and `pixels` of the largest item.

    The staged step holds one graph at a time.
    """
    size = DTYPE_BYTES[config.model.dtype]
    lora = _lora_parameters(config, net)
    moments = 8 if config.optimizer.name == "adamw" else 2
    tokens = net.sequence(text, image, source=True)
    token = config.train.batch_size * tokens * net.width * size
    m, checked, kept = config.model, _checkpointed(config), getattr(net, "kept", KEPT_PER_BLOCK)
    boundaries = token * net.blocks * checked
    weights = net.parameters * STORED_BYTES.get(m.storage, size)
    return Memory(
        weights=weights,
        adapter=lora * (8 + moments),
        ema=0 if config.method.ema_decay is None else lora * 4,
        activations=token * net.blocks * (1 - checked) * kept
        + (boundaries if m.keep_attention else 0)
        + (0 if m.boundaries_on_cpu else boundaries),
        working=(token * (kept + 2) if checked else 0) + _unpacked(config, net) * size,
        encoding=net.encoder * size,
        decoding=pixels * net.decoded(config.data.frames),
        host=(net.networks * weights if net.networks > 1 else 0)
        + (boundaries if m.boundaries_on_cpu else 0),
    )


def _unpacked(config: TrainConfig, net: Network) -> float:
    """Weights that are in `model.dtype` while a step is taken, beside those that are stored.

    One block's while it works. Backward keeps those of 8 bits where a block is not computed again,
    and bitsandbytes keeps its 4 bits.
    """
    if config.model.storage == "bf16":
        return 0
    keeps = config.model.storage != "nf4"
    largest = getattr(net, "largest_block", net.parameters / net.blocks)
    return largest + (net.parameters * (1 - _checkpointed(config)) if keeps else 0)


class Disk(NamedTuple):
    """Bytes that a run brings to the disk."""

    cache: float
    checkpoints: float
    lora_files: float
    download: float | None = 0  # of a base on the hub; None: not known


def disk(config: TrainConfig, net: Network, text: int, images: list[float], texts: int) -> Disk:
    """`images`: image tokens of every picture; `texts`: how many different texts are embedded."""
    lora, train = _lora_parameters(config, net), config.train
    size = DTYPE_BYTES[config.model.dtype]
    adam = 2 if config.optimizer.name == "adamw" else 0.5
    copies = 1 + adam + (0 if config.method.ema_decay is None else 1)
    return Disk(
        # Latents are float32; embeddings stay in the type of the encoders.
        cache=4 * sum(images) * net.packed + size * texts * text * net.text_width,
        # One more than is kept: the oldest goes only after the newest is whole.
        checkpoints=4 * lora * copies * (train.keep_checkpoints + 1),
        lora_files=2 * lora * (train.steps // train.checkpoint_every + 1),
    )
