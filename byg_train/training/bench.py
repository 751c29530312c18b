"""What a training step costs on this machine, beside a supervised step and beside its own parts.

F is one forward of the editor with source tokens, F_t one of the base without, both without
gradient. A full step is n F (rollout) + 4 F_t (priors) + 3 gradient passes; what it takes beyond
the sum of these, measured alone, is the loop's own overhead. One process, the same tensors, and
interleaved repetitions, so that a machine that slows down slows all rows.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import TrainConfig, build_config, load_preset, merged
from ..core.flow import noised
from ..core.losses import velocity_mse
from ..core.schedule import Draw, draw_t, time_grid
from ..core.step import (
    EditBatch,
    Roles,
    Text,
    Velocity,
    Weights,
    byg_step,
    identity_step,
    staged_step,
)
from ..models.backbone import Backbone, load_backbone

WORK = {
    "edit": "F: one editor forward, with source",
    "ema": "one EMA forward, with source",
    "base": "F_t: one base forward, no source",
    "supervised": "supervised step: forward and backward",
    "identity": "identity step",
    "joint": "full step in one graph (joint)",
    "staged": "full step (staged)",
}
GRAPHS = ("supervised", "joint", "staged")
# A full step: so many forwards of the base, so many gradient passes of the editor.
BASE_FORWARDS, GRADIENT_PASSES = 4, 3

Work = Callable[[], object]


class Row(NamedTuple):
    """A line of the table; seconds for times, bytes for memory."""

    name: str
    value: float
    per_forward: float | None  # in units of F
    per_supervised: float


@dataclass(frozen=True)
class Report:
    """Seconds by work and repetition, and peak bytes of activations by work."""

    setting: str
    rollout_steps: int
    seconds: dict[str, list[float]]
    memory: dict[str, int]

    @property
    def parts(self) -> list[float]:
        """n F_ema + 4 F_t + 3 gradient passes, each measured alone, per repetition."""
        s, n = self.seconds, self.rollout_steps
        return [
            n * ema + BASE_FORWARDS * base + GRADIENT_PASSES * gradient
            for ema, base, gradient in zip(s["ema"], s["base"], s["supervised"], strict=True)
        ]

    @property
    def overhead(self) -> float:
        """Full step over the sum of its parts, less 1."""
        return _ratio(self.seconds["staged"], self.parts) - 1

    def times(self) -> list[Row]:
        """Every work, and last the sum of the full step's parts."""
        count = f"{self.rollout_steps} EMA + {BASE_FORWARDS} F_t + {GRADIENT_PASSES} supervised"
        named = [(WORK[work], seconds) for work, seconds in self.seconds.items()]
        named.append((f"its parts alone: {count}", self.parts))
        return [self._time_row(name, seconds) for name, seconds in named]

    def graphs(self) -> list[Row]:
        """Memory of the works that build a graph."""
        one = self.memory["supervised"]
        return [Row(WORK[work], held, None, held / one) for work, held in self.memory.items()]

    def _time_row(self, name: str, seconds: list[float]) -> Row:
        one, supervised = self.seconds["edit"], self.seconds["supervised"]
        return Row(name, median(seconds), _ratio(seconds, one), _ratio(seconds, supervised))


def _ratio(these: list[float], those: list[float]) -> float:
    """Median over the repetitions of this over that: what both shared drops out."""
    return median(a / b for a, b in zip(these, those, strict=True))


# ---------------------------------------------------------------- memory


class _Held:
    """A tensor that autograd keeps for backward, for as long as it keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def peak_saved_bytes(work: Work, weights: Iterable[Tensor]) -> int:
    """Most bytes that autograd held for backward at any moment of `work`, weights not counted.

    A storage counts once however many tensors share it. Under gradient checkpointing this counts
    the blocks' inputs, not what one block recomputes.
    """
    known = {w.untyped_storage().data_ptr() for w in weights}
    holders: Counter[int] = Counter()
    live = peak = 0

    def hold(tensor: Tensor) -> _Held:
        nonlocal live, peak
        held, storage = _Held(tensor), tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in known:
            live += 0 if holders[key] else size
            peak = max(peak, live)
            holders[key] += 1
            weakref.finalize(held, release, key, size)
        return held

    def release(key: int, size: int) -> None:
        nonlocal live
        holders[key] -= 1
        live -= 0 if holders[key] else size

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
        work()
    return peak


def _peak_allocated(work: Work) -> int:
    """Most CUDA bytes during `work` beyond what was there before it: weights, batch, optimiser."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


# ---------------------------------------------------------------- work and its measure


def works(G: Roles, batch: EditBatch, draw: Draw, w: Weights) -> dict[str, Work]:
    """What is measured, by the keys of `WORK`; all on the same tensors."""
    x, c, _, p_src, _ = batch[:5]
    x_t, u = noised(x, draw.eps, draw.t), draw.eps - x

    @torch.no_grad()
    def forward(velocity: Velocity, text: Text, source: Tensor | None = None) -> Tensor:
        return velocity(x_t, draw.t, text, source)

    def backward(loss: Tensor) -> float:
        loss.backward()
        return 1.0

    return {
        "edit": lambda: forward(G.edit, c, x),
        "ema": lambda: forward(G.ema, c, x),
        "base": lambda: forward(G.base, p_src),
        "supervised": lambda: backward(velocity_mse(G.edit(x_t, draw.t, c, x), u).mean()),
        "identity": lambda: identity_step(G, batch, draw, backward),
        "joint": lambda: backward(byg_step(G, batch, draw, w).loss),
        "staged": lambda: staged_step(G, batch, draw, w, backward),
    }


def _seconds(work: Work, device: str, calls: int) -> float:
    """Seconds per call, over `calls` in a row."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - began) / calls


def _problem(
    backbone: Backbone, config: TrainConfig, batch: int, device: str
) -> tuple[EditBatch, Draw]:
    """A random square batch of the preset's resolution; what is in it does not change its cost."""
    g = torch.Generator().manual_seed(config.seed)
    side = max(1, config.data.resolution // backbone.multiple) * backbone.multiple
    pixels = 2 * torch.rand(batch, 3, 1, side, side, generator=g) - 1
    words = ("make it blue", "make it red", "a red thing", "a blue thing")
    with torch.no_grad():
        x = backbone.encode_pixels(pixels.to(device))
        texts = [backbone.encode_text([text] * batch) for text in words]
    eps = torch.randn(x.shape, generator=g).to(x)
    t = draw_t(batch, g, config.time.distribution, config.time.shift).to(x)
    grid = time_grid(config.rollout.steps, config.rollout.shift).to(x)
    return EditBatch(x, *texts), Draw(eps, t, grid)


def measure(config: TrainConfig, device: str, batch: int, repeats: int) -> Report:
    """Time and weigh every work of `WORK` for one configuration."""
    from ..models.lora import LoraBank

    backbone, m = load_backbone(config.model, device), config.method
    bank = LoraBank(backbone.experts, config.lora, m.ema_decay, config.seed)
    G = bank.roles(
        partial(backbone.velocity, guidance=config.guidance.train),
        partial(backbone.velocity, guidance=config.guidance.prior),
    )
    edit_batch, draw = _problem(backbone, config, batch, device)
    backbone.drop_encoders()
    w = Weights(m.lambda_cycle, m.lambda_prior, m.lambda_id, m.alpha)
    todo, weights = works(G, edit_batch, draw, w), list(backbone.experts.parameters())

    def clean(work: Work) -> Work:
        for p in weights:
            p.grad = None
        return work

    def weigh(work: Work) -> int:
        return peak_saved_bytes(work, weights) if device == "cpu" else _peak_allocated(work)

    memory = {name: weigh(clean(todo[name])) for name in GRAPHS}
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    # A part is run as often as in a full step: in a row, as there, and its noise averages alike.
    calls = {"ema": len(draw.grid) - 1, "base": BASE_FORWARDS, "supervised": GRADIENT_PASSES}
    for i in range(repeats + 1):
        for name, work in todo.items():
            spent = _seconds(clean(work), device, calls.get(name, 1))
            if i:  # the first run of anything is slower
                seconds[name].append(spent)
    return Report(_setting(config, device, edit_batch, repeats), calls["ema"], seconds, memory)


def _setting(config: TrainConfig, device: str, batch: EditBatch, repeats: int) -> str:
    cuda, shape = device != "cpu", "x".join(map(str, batch.x.shape))
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    return (
        f"{config.model.path}, {config.model.dtype}, latents {shape}, preset {config.preset}; "
        f"{device}, {where}, torch {torch.__version__}; medians of {repeats} interleaved rounds"
    )


def run(
    device: str = "cpu",
    batch: int = 8,
    model: str = "world",
    repeats: int = 5,
    preset: str = "demo",
) -> Report:
    """Measure `model` (a hub id, a folder or `world`) with a preset's settings."""
    tables = merged(load_preset(preset), {"model": {"path": model}})
    return measure(build_config(tables), device, batch, repeats)


# ---------------------------------------------------------------- printing


def table(report: Report) -> list[list[str]]:
    """Rows of cells, the heads first."""
    rows = [["what", "cost", "in F", "against supervised"]]
    for name, seconds, per_forward, ratio in report.times():
        rows.append([name, f"{1000 * seconds:.1f} ms", f"{per_forward:.2f}", f"{ratio:.2f} x"])
    for name, held, _, ratio in report.graphs():
        rows.append([f"memory, {name}", f"{held / 2**20:.1f} MiB", "", f"{ratio:.2f} x"])
    return [*rows, ["the loop's own overhead", f"{report.overhead:+.1%}", "", ""]]


def markdown(report: Report) -> str:
    """The table for a document."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in table(report))
    return "\n".join([report.setting, "", head, "| --- | ---: | ---: | ---: |", *body])


def show(report: Report) -> None:
    """The table for a terminal."""
    from rich.console import Console
    from rich.table import Table

    head, *body = table(report)
    shown = Table(title=report.setting, title_justify="left")
    for i, name in enumerate(head):
        shown.add_column(name, justify="right" if i else "left")
    for cells in body:
        shown.add_row(*cells)
    Console().print(shown)
