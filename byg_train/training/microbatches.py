"""What one optimiser step takes its gradient from: micro-batches, each for one expert."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch

from ..core.schedule import Draw
from ..core.step import (
    Backward,
    EditBatch,
    Roles,
    StepOutput,
    Weights,
    dream_together,
    identity_step,
    staged_step,
    supervised_step,
)
from ..models.backbone import Backbone

Kind = Literal["byg", "supervised", "identity"]


class MicroBatch(NamedTuple):
    """Items, what was drawn for them, and the expert whose span of time the draw lies in."""

    expert: str
    batch: EditBatch
    draw: Draw


def gradients(
    kind: Kind,
    G: Roles,
    work: list[MicroBatch],
    w: Weights,
    backward: Backward,
    backbone: Backbone,
) -> list[StepOutput]:
    """The gradient of all micro-batches, left in the weights; outputs in the order of `work`.

    Algorithm 1 dreams all its targets first and in step. So each expert is needed once for them,
    and once more at most for the gradients: over a run, the experts change places at most twice
    per step.

    Args:
        kind: `byg`, Algorithm 1; `supervised`, Eq. 1 on the true edits; `identity` loss alone.
    """
    dreams = None
    if kind == "byg":
        dreams = dream_together(G, [(batch, draw) for _, batch, draw in work])

    def step(i: int) -> StepOutput:
        _, batch, draw = work[i]
        if kind == "byg":
            return staged_step(G, batch, draw, w, backward, dreams[i])
        alone = supervised_step if kind == "supervised" else identity_step
        return alone(G, batch, draw, backward)

    outputs = {i: step(i) for i in _by_turns(work, backbone)}
    return [outputs[i] for i in range(len(work))]


def _by_turns(work: list[MicroBatch], backbone: Backbone) -> list[int]:
    """Positions in `work`: first of the expert that is on the device, then of the other.

    Gradients do not depend on it: those of one expert are added up in the order of `work`.
    """
    there = backbone.resident
    return sorted(range(len(work)), key=lambda i: work[i].expert != there)


# ---------------------------------------------------------------- what to log


def means(outputs: list[StepOutput]) -> dict[str, float]:
    """Every term's mean over all items."""
    names = outputs[0].terms
    return {name: torch.cat([o.terms[name] for o in outputs]).mean().item() for name in names}


def by_expert(
    work: list[MicroBatch], outputs: list[StepOutput], experts: Collection[str]
) -> dict[str, float]:
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
