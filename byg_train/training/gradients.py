"""Does every loss term still reach the LoRA? The alarm against a silently cut graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.schedule import Draw
from ..core.step import Backward, EditBatch, Roles, Weights, dream, staged_step

# Term -> the stages of `staged_step` in which it must leave a gradient.
STAGES = {
    "identity": ("identity",),
    "cycle": ("reverse", "forward"),
    "prior": ("reverse", "forward"),
}
ORDER = ("identity", "reverse", "forward")


def term_gradients(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: Weights,
    parameters: dict[str, nn.Parameter],
    backward: Backward,
) -> dict[str, float]:
    """Gradient norms "term/stage" of every weighted term alone, at weight 1; leaves no gradient."""
    norms, dreamt = {}, dream(G, batch, draw)
    order = [stage for stage in ORDER if w.reverse or stage != "reverse"]
    for term, stages in STAGES.items():
        if getattr(w, term) == 0 or (term == "cycle" and not w.reverse):
            continue
        found = []

        def record(loss: Tensor, found: list[float] = found) -> float:
            factor = backward(loss)
            found.append(_norm(parameters) / factor)
            for p in parameters.values():
                p.grad = None
            return factor

        alone = w._replace(**{"cycle": 0.0, "prior": 0.0, "identity": 0.0, term: 1.0})
        staged_step(G, batch, draw, alone, record, dreamt)
        ran = order if term == "identity" else order[1:]  # at weight 0 there is no identity stage
        by_stage = dict(zip(ran, found, strict=True))
        norms |= {f"{term}/{stage}": by_stage[stage] for stage in stages if stage in by_stage}
    return norms


def _norm(parameters: dict[str, nn.Parameter]) -> float:
    grads = [p.grad.norm() for p in parameters.values() if p.grad is not None]
    return torch.stack(grads).norm().item() if grads else 0.0
