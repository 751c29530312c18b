"""Does every loss term still reach the LoRA? The alarm against a silently cut graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config.methods import MethodConfig
from ..core.roles import EditBatch, Roles
from ..core.schedule import Draw
from ..objectives.objective import Backward, Objective


class GradientNorms:
    """A `Backward` that notes the norm of each stage's gradient, and leaves none behind."""

    def __init__(self, parameters: dict[str, nn.Parameter], backward: Backward) -> None:
        self.parameters, self.backward = parameters.values(), backward
        self.norms: dict[str, float] = {}

    def __call__(self, loss: Tensor, stage: str) -> float:
        """Backpropagate, without the factor in what is noted."""
        factor = self.backward(loss, stage)
        grads = [p.grad.norm() for p in self.parameters if p.grad is not None]
        self.norms[stage] = torch.stack(grads).norm().item() / factor if grads else 0.0
        for p in self.parameters:
            p.grad = None
        return factor


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

    Each weight is tried alone, at 1. Terms at weight 0, and those whose pass the settings leave
    out, are not: they have no gradient to lose.
    """
    (prepared,) = objective.prepare(G, [(batch, draw)])
    checked = [term for term in objective.terms if term.stages and getattr(w, term.weight)]
    weights = {term.weight for term in objective.terms if term.weight}
    norms = {}
    for weight in dict.fromkeys(term.weight for term in checked):
        alone = w.model_copy(update={name: float(name == weight) for name in weights})
        seen = GradientNorms(parameters, backward)
        out = objective.step(G, batch, draw, alone, seen, prepared)
        norms |= {
            f"{term.name}/{stage}": seen.norms.get(stage, 0.0)
            for term in checked
            if term.weight == weight and term.name in out.terms
            for stage in term.stages
        }
    return norms
