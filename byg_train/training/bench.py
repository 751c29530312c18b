"""What a training step costs on this machine, beside a supervised step and beside its own parts.

F is one forward of the editor with source tokens, F_t one of the base without, both without
gradient. A full step of Algorithm 1 is n F (rollout) + 4 F_t (priors) + 3 gradient passes; what it
takes beyond the sum of these, measured alone, is the loop's own overhead. One process, the same
tensors, and interleaved repetitions, so that a machine that slows down slows all rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ConfigError, TrainConfig, merge_settings
from ..config.methods import MethodConfig
from ..core.flow import noised
from ..core.roles import EditBatch, Roles, Text, Velocity
from ..core.schedule import Draw
from ..family import EMBEDDED
from ..machine import resolve_dtype
from ..models.backbone import Backbone, load_backbone
from ..objectives import SUPERVISED, objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import Calls, Objective
from .draws import draw_for
from .peak import Work, peak_allocated_bytes, peak_saved_bytes

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
# The parts of a full step -> the work that measures one of them alone, and its short name.
PARTS = {
    "ema": ("ema", "EMA"),
    "base": ("base", "F_t"),
    "edit": ("edit", "F"),
    "gradients": ("supervised", "supervised"),
}


class CostRow(NamedTuple):
    """A line of the table; seconds for times, bytes for memory."""

    name: str
    value: float
    per_forward: float | None  # in units of F
    per_supervised: float


@dataclass(frozen=True)
class CostReport:
    """Seconds by work and repetition, and peak bytes of activations by work."""

    setting: str
    calls: Calls
    seconds: dict[str, list[float]]
    memory: dict[str, int]

    @property
    def parts(self) -> list[float]:
        """The calls of a full step, each at the time that it takes alone, per repetition."""
        counts = {work: getattr(self.calls, part) for part, (work, _) in PARTS.items()}
        rounds = zip(*(self.seconds[work] for work in counts), strict=True)
        return [sum(n * s for n, s in zip(counts.values(), one, strict=True)) for one in rounds]

    @property
    def overhead(self) -> float:
        """Full step over the sum of its parts, less 1."""
        return _ratio(self.seconds["staged"], self.parts) - 1

    def times(self) -> list[CostRow]:
        """Return a row for every work, and last the sum of the full step's parts."""
        counts = {name: getattr(self.calls, part) for part, (_, name) in PARTS.items()}
        count = " + ".join(f"{n:g} {name}" for name, n in counts.items() if n)
        named = [(WORK[work], seconds) for work, seconds in self.seconds.items()]
        named.append((f"its parts alone: {count}", self.parts))
        return [self._time_row(name, seconds) for name, seconds in named]

    def graphs(self) -> list[CostRow]:
        """Memory of the works that build a graph."""
        one = self.memory["supervised"]
        return [CostRow(WORK[work], held, None, held / one) for work, held in self.memory.items()]

    def _time_row(self, name: str, seconds: list[float]) -> CostRow:
        one, supervised = self.seconds["edit"], self.seconds["supervised"]
        return CostRow(name, median(seconds), _ratio(seconds, one), _ratio(seconds, supervised))


def _ratio(these: list[float], those: list[float]) -> float:
    """Median over the repetitions of this over that: what both shared drops out."""
    return median(a / b for a, b in zip(these, those, strict=True))


# ---------------------------------------------------------------- work and its measure


def works(
    objective: Objective, G: Roles, batch: EditBatch, draw: Draw, w: MethodConfig
) -> dict[str, Work]:
    """What is measured, by the keys of `WORK`; all on the same tensors."""
    x, c, _, p_src, _ = batch[:5]
    batch = batch._replace(y=x)  # any true edit costs the same
    x_t, joint = noised(x, draw.eps, draw.t), objective.joint

    @torch.no_grad()
    def forward(velocity: Velocity, text: Text, source: Tensor | None = None) -> Tensor:
        return velocity(x_t, draw.t, text, source)

    def backward(loss: Tensor, stage: str) -> float:
        loss.backward()
        return 1.0

    def step() -> None:
        (prepared,) = objective.prepare(G, [(batch, draw)])
        objective.step(G, batch, draw, w, backward, prepared)

    todo = {
        "edit": lambda: forward(G.edit, c, x),
        "ema": lambda: forward(G.ema, c, x),
        "base": lambda: forward(G.base, p_src),
        "supervised": lambda: SUPERVISED.step(G, batch, draw, w, backward),
        "identity": lambda: IDENTITY.step(G, batch, draw, w, backward),
    }
    if joint:
        todo["joint"] = lambda: backward(joint(G, batch, draw, w).loss, "joint")
    return {**todo, "staged": step}


def _seconds(work: Work, device: str, calls: int) -> float:
    """Seconds per call, over `calls` in a row."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - began) / calls


def problem(
    backbone: Backbone, config: TrainConfig, batch: int, device: str
) -> tuple[EditBatch, Draw]:
    """A random square batch of the preset's resolution; what is in it does not change its cost."""
    g = torch.Generator().manual_seed(config.seed)
    side = max(1, config.data.resolution // backbone.multiple) * backbone.multiple
    pixels = 2 * torch.rand(batch, 3, 1, side, side, generator=g) - 1
    words = ("make it blue", "make it red", "a red thing", "a blue thing")
    x = backbone.encode_pixels(pixels.to(device))
    texts = [backbone.encode_text([text] * batch) for text in words]
    return EditBatch(x, *texts), draw_for(config, 0, range(len(x)), x, (0.0, 1.0))


def measure(config: TrainConfig, device: str, batch: int, repeats: int) -> CostReport:
    """Time and weigh every work of `WORK` for one configuration."""
    from ..models.lora import LoraBank
    from .assembly import make_roles

    backbone, objective = load_backbone(config.model, device), objective_of(config)
    bank = LoraBank(backbone.experts, config.lora, config.method.ema_decay, config.seed)
    edit_batch, draw = problem(backbone, config, batch, device)
    empty = {name: text[0] for name, text in backbone.encode_text([""]).items()}
    backbone.drop_encoders()
    G = make_roles(config, backbone, bank, empty)
    todo = works(objective, G, edit_batch, draw, config.method)
    weights, calls = list(backbone.experts.parameters()), objective.calls(config)

    def clean(work: Work) -> Work:
        for p in weights:
            p.grad = None
        return work

    def weigh(work: Work) -> int:
        return peak_saved_bytes(work, weights) if device == "cpu" else peak_allocated_bytes(work)

    memory = {name: weigh(clean(todo[name])) for name in GRAPHS if name in todo}
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    # A part is run as often as in a full step: in a row, as there, and its noise averages alike.
    often = {work: max(1, round(getattr(calls, part))) for part, (work, _) in PARTS.items()}
    for i in range(repeats + 1):
        for name, work in todo.items():
            spent = _seconds(clean(work), device, often.get(name, 1))
            if i:  # the first run of anything is slower
                seconds[name].append(spent)
    return CostReport(_setting(config, device, edit_batch, repeats), calls, seconds, memory)


def _setting(config: TrainConfig, device: str, batch: EditBatch, repeats: int) -> str:
    cuda, shape = device != "cpu", "x".join(map(str, batch.x.shape))
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    what = f"{config.model.path}, {resolve_dtype(config.model.dtype, device)}, latents {shape}"
    how = f"torch {torch.__version__}; medians of {repeats} interleaved rounds"
    return f"{what}, preset {config.preset}; {device}, {where}, {how}"


def run(
    device: str = "cpu",
    batch: int = 8,
    model: str = EMBEDDED,
    repeats: int = 5,
    preset: str = "demo",
    profile: str | None = None,
    assignments: Iterable[str] = (),
) -> CostReport:
    """Measure `model` (a hub id, a folder or `world`) with a preset's settings, changed by some."""
    rows = [*assignments, *(f"train.{name}={batch}" for name in ("batch_size", "global_batch"))]
    config = merge_settings(preset, profile=profile, model=model, assignments=rows)
    if objective_of(config).helper:
        raise ConfigError(
            f"bench measures steps of one network, and {config.method.objective} trains two: see "
            "--dry-run for what it costs"
        )
    return measure(config, device, batch, repeats)


# ---------------------------------------------------------------- printing


def table(report: CostReport) -> list[list[str]]:
    """Rows of cells, the heads first."""
    rows = [["what", "cost", "in F", "against supervised"]]
    for name, seconds, per_forward, ratio in report.times():
        rows.append([name, f"{1000 * seconds:.1f} ms", f"{per_forward:.2f}", f"{ratio:.2f} x"])
    for name, held, _, ratio in report.graphs():
        rows.append([f"memory, {name}", f"{held / 2**20:.1f} MiB", "", f"{ratio:.2f} x"])
    return [*rows, ["the loop's own overhead", f"{report.overhead:+.1%}", "", ""]]


def show(report: CostReport) -> None:
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
