"""Does every loss term still reach the LoRA? The alarm against a silently cut graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config.methods import MethodConfig
from ..core.roles import EditBatch, Roles
from ..core.schedule import Draw
from ..objectives.objective import Backward, Objective


def term_gradients(
    objective: Objective,
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: MethodConfig,
    parameters: dict[str, nn.Parameter],
    backward: Backward,
) -> dict[str, float]:
    """Gradient norms "term/stage" of what the objective's terms declare; leaves no gradient.

    Each weight is tried alone, at 1. Terms at weight 0, those whose pass the settings leave out,
    and those that are 0 for all rows are not: they have no gradient to lose. So it is of a critic's
    question of the edit where the item is one to do nothing, of which it is not asked.
    """
    seen: dict[str, float] = {}

    def noted(loss: Tensor, stage: str) -> float:
        """Note the norm of a stage's gradient, without the factor in it, and leave none behind."""
        factor = backward(loss, stage)
        grads = [p.grad.norm() for p in parameters.values() if p.grad is not None]
        seen[stage] = torch.stack(grads).norm().item() / factor if grads else 0.0
        for p in parameters.values():
            p.grad = None
        return factor

    (prepared,) = objective.prepare(G, [(batch, draw)])
    checked = [term for term in objective.terms if term.stages and getattr(w, term.weight)]
    weights = {term.weight for term in objective.terms if term.weight}
    norms = {}
    for weight in dict.fromkeys(term.weight for term in checked):
        alone = w.model_copy(update={name: float(name == weight) for name in weights})
        seen.clear()
        out = objective.step(G, batch, draw, alone, noted, prepared)
        norms |= {
            f"{term.name}/{stage}": seen.get(stage, 0.0)
            for term in checked
            if term.weight == weight and term.name in out.terms and out.terms[term.name].any()
            for stage in term.stages
        }
    return norms
