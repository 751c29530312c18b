"""The micro-batches of an optimiser step, each for one expert, and the gradient of all of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from ..config.methods import MethodConfig
from ..core.roles import EditBatch, Roles
from ..core.schedule import Draw
from ..models.backbone import Backbone
from ..objectives.objective import Backward, Objective, StepOutput


class MicroBatch(NamedTuple):
    """Items, what was drawn for them, and the expert whose span of time the draw lies in."""

    expert: str
    batch: EditBatch
    draw: Draw


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
    prepared = objective.prepare(G, [(batch, draw) for _, batch, draw in work])
    outputs = {
        i: objective.step(G, work[i].batch, work[i].draw, w, backward, prepared[i])
        for i in _by_turns(work, backbone)
    }
    return [outputs[i] for i in range(len(work))]


def _by_turns(work: list[MicroBatch], backbone: Backbone) -> list[int]:
    """Positions in `work`: first of the expert that is on the device, then of the other.

    Gradients do not depend on it: those of one expert are added up in the order of `work`.
    """
    there = backbone.on_device
    return sorted(range(len(work)), key=lambda i: work[i].expert != there)


# ---------------------------------------------------------------- what to log


class TrainingError(RuntimeError):
    """The run cannot go on; what was saved before stays valid."""


class Passes:
    """The losses of a step's backward passes, which are looked at once: each look waits."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._losses: dict[str, Tensor] = {}

    def note(self, stage: str, loss: Tensor) -> None:
        """Take in the loss () of a pass; what is no number stays none in a sum."""
        self._losses[stage] = self._losses.get(stage, 0) + loss

    def numbers(self, measures: dict[str, Tensor]) -> dict[str, float]:
        """Measures () as numbers, in one transfer; among them must be `grad_norm`.

        TrainingError where it, or the loss of a pass, is no number.
        """
        checked = {f"loss of the {stage} pass": loss for stage, loss in self._losses.items()}
        checked["gradient"] = measures["grad_norm"]
        whole = torch.stack([value.double() for value in (*measures.values(), *checked.values())])
        found = whole.tolist()
        for what, value in zip(checked, found[len(measures) :], strict=True):
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {what} became {value} at step {self.step}; the last checkpoint is "
                    "intact: lower optimizer.lr and resume from it"
                )
        return dict(zip(measures, found[: len(measures)], strict=True))


def means(outputs: list[StepOutput]) -> dict[str, Tensor]:
    """Every term's mean over all items, ()."""
    names = outputs[0].terms
    return {name: torch.cat([o.terms[name] for o in outputs]).mean() for name in names}


def by_expert(
    work: list[MicroBatch], outputs: list[StepOutput], experts: Collection[str]
) -> dict[str, Tensor]:
    """Where several experts are trained, the means over each one's items, as "term/expert"."""
    if len(experts) == 1:
        return {}
    own = {e: [o for m, o in zip(work, outputs, strict=True) if m.expert == e] for e in experts}
    return {
        label(name, expert, experts): value
        for expert, some in own.items()
        if some
        for name, value in means(some).items()
    }


def label(name: str, expert: str, experts: Collection[str]) -> str:
    """What a measure of one expert is called: by its own name, where there is no other expert."""
    return f"{name}/{expert}" if len(experts) > 1 else name
