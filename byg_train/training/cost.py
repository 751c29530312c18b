"""What a run costs: forwards, FLOPs, memory and disk, from token counts. Loads nothing.

F is one forward of the edit network (text, target and source tokens), r F one forward of the base
(text and target tokens). All results are estimates; nothing is measured on the machine at hand.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..config import TrainConfig
from ..family import family_of
from ..media.fit import Size, buckets, nearest_bucket
from ..models.networks import Network, network
from ..objectives import SUPERVISED, objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import Objective
from .processes import launched

if TYPE_CHECKING:
    from ..data.items import Dataset


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

# Bytes per second from pinned main memory, over PCIe 4.0 with 16 lanes.
FETCH = 25e9
# Parts that a plan counts with, where nothing was launched yet.
SHARDS = 8

# Bytes of a number; "auto", where no machine has resolved it, is what all these GPUs compute in.
DTYPE_BYTES = {"bfloat16": 2, "float32": 4, "auto": 2}
# Tensors of a token's width that backward keeps per block, where a family has measured no other.
KEPT_PER_BLOCK = 30
# Rows on which a validation measures how much of the source is kept.
SOURCE_ROWS = 16
# "7B" in the name of a model.
CRITIC_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z0-9])")
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
    aux = 1 if config.method.sees_source else r

    def cost(objective: Objective) -> float:
        calls = objective.calls(config)
        others = calls.aux + calls.teacher + calls.aux_gradients * gradient
        return (
            calls.gradients * gradient + calls.edit + calls.ema + calls.base * base + others * aux
        )

    full, identity, supervised = map(cost, (objective_of(config), IDENTITY, SUPERVISED))
    share = config.method.identity_share
    return StepCost(full, identity, share * identity + (1 - share) * full, supervised)


def validation_cost(config: TrainConfig) -> float:
    """Forwards (in F) to validate one held-out item: edits both ways, a guess, two measures.

    The second is of a fixed number of rows, whatever the number of items.
    """
    s = config.sample
    guided = s.cfg != 1 or s.cfg_low not in (None, 1)
    return 2 * s.steps * (2 if guided else 1) + config.rollout.steps + 2 + SOURCE_ROWS / s.count


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
    adapter: float  # what trains: LoRA weights, gradients and optimiser in float32
    ema: float  # and other adapters that do not train
    activations: float  # what one graph keeps for backward
    working: float  # one block while it is recomputed, and weights while they are no 8 or 4 bits
    encoding: float  # the text encoder, before the weights come to the device
    decoding: float  # the VAE on one held-out sample: they are decoded one by one
    host: float  # of main memory: experts that wait for their turn, and activations put there
    critic: float = 0  # what judges edits, where it is on this device

    @property
    def step(self) -> float:
        """Bytes in use while a step is taken."""
        kept = self.weights + self.critic + self.adapter + self.ema
        return kept + self.activations + self.working

    @property
    def validation(self) -> float:
        """Bytes in use while samples are decoded, when no graph is kept."""
        return self.weights + self.critic + self.adapter + self.ema + self.decoding

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
    waits = (net.networks > 1 and m.placement == "whole") or m.placement == "streamed"
    more = objective_of(config).adapters(config)
    return Memory(
        weights=weights if m.placement == "whole" else _gathered(config, net) * size,
        adapter=lora * (8 + moments) * (1 + ("aux" in more)),
        ema=lora * 4 * ((config.method.ema_decay is not None) + ("teacher" in more)),
        activations=token * net.blocks * (1 - checked) * kept
        + (boundaries if m.keep_attention else 0)
        + (0 if m.boundaries_on_cpu else boundaries),
        working=(token * (kept + 2) if checked else 0) + _unpacked(config, net) * size,
        encoding=net.encoder * size,
        decoding=pixels * net.decoded(config.data.frames),
        host=(net.networks * weights if waits else 0) + (boundaries if m.boundaries_on_cpu else 0),
        critic=0 if config.critic.device else critic_bytes(config),
    )


def _gathered(config: TrainConfig, net: Network) -> float:
    """Weights on the device where blocks are fetched: the one at work, two beside it, the rest."""
    fetched = 4 * getattr(net, "largest_block", net.parameters / net.blocks)
    if config.model.placement == "streamed":
        return fetched
    world = launched()[1]
    return fetched + net.networks * net.parameters / (world if world > 1 else SHARDS)


def fetching(config: TrainConfig, net: Network, forward: float) -> float:
    """How many times as long a step takes because weights are fetched from main memory.

    `forward`: FLOPs of one. On one device nothing overlaps.
    """
    if config.model.placement != "streamed":
        return 1.0
    seconds = net.parameters * DTYPE_BYTES[config.model.dtype] / FETCH
    return 1 + seconds / (forward / (SUSTAINED * GPUS["RTX 4090"].tflops * 1e12))


def critic_bytes(config: TrainConfig) -> float:
    """What the critic weighs, by the number of parameters in its name; 0 where there is none."""
    size = CRITIC_SIZE.search(config.critic.path)
    asked = objective_of(config).calls(config).critic
    return 2e9 * float(size[1]) if asked and size else 0.0


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
    more = objective_of(config).adapters(config)
    copies = 1 + adam + (0 if config.method.ema_decay is None else 1)
    copies += (1 + adam) * ("aux" in more) + ("teacher" in more)
    return Disk(
        # Latents are float32; embeddings stay in the type of the encoders.
        cache=4 * sum(images) * net.packed + size * texts * text * net.text_width,
        # One more than is kept: the oldest goes only after the newest is whole.
        checkpoints=4 * lora * copies * (train.keep_checkpoints + 1),
        lora_files=2 * lora * (train.steps // train.checkpoint_every + 1),
    )


class Shapes(NamedTuple):
    """What the cost of a run depends on: how many items of which size."""

    sizes: Counter[Size]  # training items per bucket
    text: int  # tokens
    image: dict[Size, int]  # tokens of one picture or clip

    @property
    def mean_image(self) -> float:
        """Tokens of an average picture or clip."""
        return sum(self.image[size] * n for size, n in self.sizes.items()) / self.sizes.total()


def shapes(config: TrainConfig, multiple: int, data: Dataset | None) -> Shapes:
    """Token counts of the data; without data, of one square picture or one 16:9 clip."""
    choice = buckets(
        config.data.resolution, multiple, config.data.max_aspect if config.data.buckets else 1.0
    )
    items = data.train if data else []
    sizes = Counter(nearest_bucket(item.width, item.height, choice) for item in items)
    if not sizes:
        sizes[nearest_bucket(*((16, 9) if config.data.frames > 1 else (1, 1)), choice)] = 1
    bases, frames = family_of(config.model.family).bases, config.data.frames
    counts = {size: bases.token_counts(config.model, *size, frames) for size in sizes}
    text = next(iter(counts.values()))[0]
    return Shapes(sizes, text, {size: image for size, (_, image) in counts.items()})
