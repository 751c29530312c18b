"""The plan of a run: items, tokens, cost, memory, time and disk. Estimates; nothing is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from ..config import TrainConfig
from ..family import family_of
from ..machine import resolve_dtype
from ..models.backbone import pixel_multiple
from ..models.networks import Network, network
from ..objectives import objective_of
from .cost import (
    CPU_TFLOPS,
    GPUS,
    SUSTAINED,
    Compute,
    Memory,
    Shapes,
    compute,
    fetching,
    memory,
    shapes,
    validation_cost,
)
from .disk import disk_need, disk_words
from .processes import launched
from .words import duration, size_words

if TYPE_CHECKING:
    from ..data.items import Dataset, Item

# GPUs of the paper's runs (B.1, B.2).
EIGHT = 8


def run_cost(config: TrainConfig, multiple: int, data: Dataset | None) -> Compute:
    """What the run's steps cost, at its data's mean token count."""
    s = shapes(config, multiple, data)
    return compute(config, network(config.model), s.text, s.mean_image)


def need(config: TrainConfig, s: Shapes) -> Memory:
    """Bytes on the device for the largest item."""
    pixels = max(width * height for width, height in s.sizes)
    return memory(config, network(config.model), s.text, max(s.image.values()), pixels)


def need_here(config: TrainConfig, data: Dataset, device: str) -> Memory:
    """Bytes that a step takes on this machine, computed in what its device computes in."""
    here = config.with_dtype(resolve_dtype(config.model.dtype, device))
    return need(here, shapes(here, pixel_multiple(here.model), data))


def plan(config: TrainConfig, multiple: int, data: Dataset | None) -> Table:
    """The plan as a table of two columns."""
    table = Table(title=f"Plan of preset {config.preset}", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _rows(config, shapes(config, multiple, data), data):
        table.add_row(name, text)
    table.caption = "Cost, memory, time and disk are estimates from token counts, not measurements."
    return table


def _rows(config: TrainConfig, s: Shapes, data: Dataset | None) -> list[tuple[str, str]]:
    net = network(config.model)
    cost = compute(config, net, s.text, s.mean_image)
    room = need(config, s)
    brought = disk_words(disk_need(config, s, all_items(data)))
    return [
        ("base", config.model.path),
        ("items", _items(data)),
        ("buckets", _buckets(config, s, data)),
        ("tokens", _tokens(s, net)),
        ("steps", _steps(config)),
        ("losses", _losses(config)),
        *_step_rows(config, cost),
        *_asked(config),
        ("memory" if config.model.is_embedded else "memory per GPU", _memory_words(config, room)),
        *_times(config, cost, room.total),
        ("disk", brought if data else f"{brought} (without your data)"),
    ]  # fmt: skip


def _buckets(config: TrainConfig, s: Shapes, data: Dataset | None) -> str:
    d = config.data
    sizes = ", ".join(f"{width}x{height}: {n}" for (width, height), n in sorted(s.sizes.items()))
    words = sizes if data else f"about {d.resolution} px squared"
    if not family_of(config.model.family).is_video:
        return words
    (width, height), _ = s.sizes.most_common(1)[0]
    words += "" if data else f", such as {width}x{height}"
    return f"{words}; {d.frames} frames at {d.fps:g} fps ({d.frames / d.fps:.1f} s)"


def _tokens(s: Shapes, net: Network) -> str:
    if net.text_attends:
        return f"{s.text} text + 2 x {s.mean_image:.0f} image (target and source)"
    sequence = net.sequence(s.text, s.mean_image, source=True)
    return (
        f"{sequence:,.0f} attend to each other: 2 x {s.mean_image:,.0f} of the clip (target and "
        f"source); beside them {s.text} of text"
    )


def _step_rows(config: TrainConfig, cost: Compute) -> list[tuple[str, str]]:
    step = cost.step
    m = config.model
    share = "" if m.checkpointed_blocks == 1 else f" of {m.checkpointed_blocks:.0%} of the blocks"
    checkpointing = (
        f"with checkpointing{share}" if m.gradient_checkpointing else "without checkpointing"
    )
    return [
        ("one step", f"{step.full:.1f} F in full, {step.identity:.0f} F identity-only, "
         f"{step.mean:.1f} F on average ({checkpointing})"),
        ("", f"F, one forward of the editor, is {_teraflop(cost.forward)}; one of the base is "
         f"{cost.r:.2f} F"),
        ("supervised", f"a step on true pairs would take {step.supervised:.0f} F; this method "
         f"takes {step.mean / step.supervised:.1f} times as long per step"),
        ("samples", _validations(config, step.mean)),
        *_placement(config, cost),
    ]  # fmt: skip


def _placement(config: TrainConfig, cost: Compute) -> list[tuple[str, str]]:
    times = fetching(config, network(config.model), cost.forward)
    words = {
        "streamed": "each block comes from main memory for every pass: a step takes about "
        f"{times:.2f} times as long on an RTX 4090",
        "sharded": "each process keeps a part of the weights, and takes part in every pass",
    }
    placement = config.model.placement
    return [("weights", words[placement])] if placement in words else []


def _asked(config: TrainConfig) -> list[tuple[str, str]]:
    """How often a step asks which network about an item, where there are more than usual."""
    calls = objective_of(config).calls(config)
    if not (calls.aux or calls.critic):
        return []
    asked = {
        "student": f"{calls.gradients:g} with a gradient, {calls.edit:g} without",
        "auxiliary": f"{calls.aux_gradients:g} with a gradient, {calls.aux:g} without",
        "teacher": f"{calls.teacher:g}",
        "critic": f"{calls.critic:g}, forward and backward, not counted in F",
    }
    there = {"auxiliary": calls.aux, "teacher": calls.teacher, "critic": calls.critic}
    words = [f"{name} {often}" for name, often in asked.items() if there.get(name, 1)]
    where = config.critic.device or "beside the student"
    critic = f"; the critic is {config.critic.path}, {where}" if calls.critic else ""
    return [("forwards", f"{'; '.join(words)}, of an item in a step{critic}")]


def _teraflop(flops: float) -> str:
    count = flops / 1e12
    return f"{count:,.0f} TFLOP" if count > 10 else f"{count:.2g} TFLOP"


def _validations(config: TrainConfig, step: float) -> str:
    """What validation on held-out items takes; `step`: F of one item's average step."""
    t, count = config.train, config.sample.count
    cost = count * validation_cost(config)
    number = 1 + t.sample_first + ((t.steps - 1) // t.sample_every if t.sample_every else 0)
    return (
        f"{number} validations on {count} held-out items, {cost:.0f} F each (as long as "
        f"{cost / (step * t.global_batch):.1f} steps)"
    )


def _steps(config: TrainConfig) -> str:
    t, w = config.train, config.warmup
    warmup = f"{w.min_steps}" if w.min_steps == w.max_steps else f"{w.min_steps} to {w.max_steps}"
    world = launched()[1]
    among = f" in {world} processes" if world > 1 else ""
    parts = t.global_batch // t.batch_size
    return (
        f"{t.steps} of {t.global_batch} items ({parts} x {t.batch_size}{among}), "
        f"after {warmup} of identity"
    )


def _losses(config: TrainConfig) -> str:
    """A line for each term that counts: its weight, its name in the logs, and what it wants."""
    starts, ends = config.method.after(0.0), config.method.after(1.0)
    lines = []
    for term in objective_of(config).terms:
        first, last = (getattr(m, term.weight) if term.weight else 1.0 for m in (starts, ends))
        weight = f"{first:g}" if first == last else f"{first:g} ({last:g} at the end)"
        if first or last:
            lines.append(f"{weight} x {term.name}: {term.about}")
    return "\n".join(lines)


def _memory_words(config: TrainConfig, need: Memory) -> str:
    encoder = family_of(config.model.family).text_encoder
    critic = f"critic {size_words(need.critic)}, " if need.critic else ""
    return (
        f"{size_words(need.total)}: weights {size_words(need.weights)}, LoRA with optimiser "
        f"{size_words(need.adapter)}, EMA {size_words(need.ema)}, {critic}"
        "and activations of a step "
        f"{size_words(need.activations + need.working)} or decoding of samples "
        f"{size_words(need.decoding)}; before that {encoder} alone {size_words(need.encoding)}"
    ) + (f"; {size_words(need.host)} of main memory for {_waiting(config)}" if need.host else "")


def _waiting(config: TrainConfig) -> str:
    """What is in main memory until it is needed."""
    placement = config.model.placement
    both = network(config.model).networks > 1 and placement != "sharded"
    alone = placement == "streamed" and not both
    waits = {
        "both experts": both,
        "the weights": alone,
        "what backward needs": config.model.boundaries_on_cpu,
    }
    return " and ".join(name for name, is_so in waits.items() if is_so)


def _times(config: TrainConfig, cost: Compute, memory_need: float) -> list[tuple[str, str]]:
    """Rows: on one device, and on several that share the items of a step."""
    if config.model.is_embedded:
        speed = f"assumed {CPU_TFLOPS:g} TFLOP/s"
        time = duration(cost.seconds(CPU_TFLOPS))
        return [("time", f"2 CPU cores {time} (at an {speed})")]
    fits = {name: gpu for name, gpu in GPUS.items() if gpu.memory > memory_need}
    small = [name for name in GPUS if name not in fits]
    if not fits:
        return [("time", f"fits none of the known GPUs ({', '.join(small)})")]

    def on(number: int) -> str:
        seconds = {n: cost.seconds(number * SUSTAINED * g.tflops) for n, g in fits.items()}
        return ", ".join(f"{name} {duration(s)}" for name, s in seconds.items())

    too_small = f"; too little memory: {', '.join(small)}" if small else ""
    speed = f"at an assumed {SUSTAINED:.0%} of the peak bf16 speed, samples not counted"
    return [
        ("time, 1 GPU", f"{on(1)} ({speed}){too_small}"),
        ("time, 8 GPUs", f"{on(EIGHT)}: the paper's machine (docs/scaling.md)"),
    ]


def all_items(data: Dataset | None) -> list[Item]:
    """Return all items of a data set, training and test."""
    return [*data.train, *data.test] if data else []


def _items(data: Dataset | None) -> str:
    if data is None:
        return "none yet"
    dropped = f", {len(data.problems)} dropped" if data.problems else ""
    excluded = f", {data.excluded} excluded" if data.excluded else ""
    return f"{len(data.train)} for training, {len(data.test)} held out{dropped}{excluded}"
