"""The micro-batches of an optimiser step, each for one expert, and the gradient of all of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..config.methods import MethodConfig
from ..core.roles import EditBatch, Roles
from ..core.schedule import Draw
from ..models.backbone import Backbone
from ..objectives.objective import Backward, Objective, StepOutput
from .state import TrainingError


class MicroBatch(NamedTuple):
    """Items, what was drawn for them, and the expert whose span of time the draw lies in."""

    expert: str
    batch: EditBatch
    draw: Draw
    share: float = 1.0  # of the optimiser step's gradient: its rows among those of all processes


def gradients(
    objective: Objective,
    G: Roles,
    work: list[MicroBatch],
    w: MethodConfig,
    backward: Backward,
    backbone: Backbone,
) -> list[StepOutput]:
    """The gradient of all micro-batches, left in the weights; outputs in the order of `work`.

    An objective prepares all of them first (Algorithm 1 dreams its targets in step). So each expert
    is needed once for that, and once more at most for the gradients: over a run, the experts change
    places at most twice per step.
    """
    prepared = objective.prepare(G, [(one.batch, one.draw) for one in work])
    outputs = {}
    for i in _by_turns(work, backbone):
        one = work[i]
        scaled = _scaled(backward, one.share)
        outputs[i] = objective.step(G, one.batch, one.draw, w, scaled, prepared[i])
    return [outputs[i] for i in range(len(work))]


def _scaled(backward: Backward, share: float) -> Backward:
    """Return a backward of a share of every loss."""
    return lambda loss, stage: share * backward(share * loss, stage)


def _by_turns(work: list[MicroBatch], backbone: Backbone) -> list[int]:
    """Positions in `work`: first of the expert that is on the device, then of the other.

    Gradients do not depend on it: those of one expert are added up in the order of `work`.
    """
    there = backbone.on_device
    return sorted(range(len(work)), key=lambda i: work[i].expert != there)


# ---------------------------------------------------------------- what to log


class Passes:
    """The losses of a step's backward passes, which are looked at once: each look waits."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._losses: dict[str, Tensor] = {}

    def note(self, stage: str, loss: Tensor) -> None:
        """Take in the loss () of a pass; what is no number stays none in a sum."""
        self._losses[stage] = self._losses.get(stage, 0) + loss

    def numbers(
        self, sums: dict[str, Tensor], grad_norm: Tensor, skip_above: float | None = None
    ) -> dict[str, float | None]:
        """Means of measures, from the `sums` of all rows (2,), and the norm (), in one transfer.

        TrainingError where the norm, or the loss of a pass, is no number. With `skip_above` such a
        norm, or one above it, is marked as `skipped` instead: it is the same in all processes.
        """
        checked = {f"loss of the {stage} pass": loss for stage, loss in self._losses.items()}
        checked["gradient"] = grad_norm
        whole = [*sums.values(), torch.stack([value.double() for value in checked.values()])]
        found = torch.cat(whole).tolist()
        means = {
            name: value / rows
            for name, value, rows in zip(sums, found[::2], found[1::2], strict=False)
            if rows
        }
        means["grad_norm"] = found[-1]
        if skip_above is not None:
            kept = {name: v if math.isfinite(v) else None for name, v in means.items()}
            return kept if found[-1] <= skip_above else {**kept, "skipped": 1.0}
        for what, value in zip(checked, found[2 * len(sums) :], strict=True):
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {what} became {value} at step {self.step}; the last checkpoint is "
                    "intact: lower optimizer.lr and resume from it"
                )
        return means


def sums(
    work: list[MicroBatch], outputs: list[StepOutput], experts: Collection[str]
) -> dict[str, Tensor]:
    """The sum over all rows, and their number, (2,), of the loss and every term.

    Where several experts are trained, also over each one's rows, as "term/expert".
    """

    def total(parts: Iterable[Tensor]) -> Tensor:
        rows = torch.cat([nothing, *(part.double().flatten() for part in parts)])
        return torch.stack([rows.sum(), rows.new_full((), len(rows))])

    nothing = outputs[0].loss.new_zeros(0, dtype=torch.float64)
    found = {"loss": total(o.loss.expand(len(o.t)) for o in outputs)}
    for name in outputs[0].terms:
        found[name] = total(o.terms[name] for o in outputs)
        for expert in experts if len(experts) > 1 else ():
            own = (o.terms[name] for m, o in zip(work, outputs, strict=True) if m.expert == expert)
            found[label(name, expert, experts)] = total(own)
    return found


def label(name: str, expert: str, experts: Collection[str]) -> str:
    """What a measure of one expert is called: by its own name, where there is no other expert."""
    return f"{name}/{expert}" if len(experts) > 1 else name
