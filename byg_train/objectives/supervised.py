"""Training on true edits (Eq. 1), for those who have pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.methods import SupervisedConfig
from ..core.flow import noised
from ..core.losses import velocity_mse
from .objective import Backward, Calls, Objective, StepOutput, Term, detached, weighted

if TYPE_CHECKING:
    from ..core.roles import EditBatch, Roles
    from ..core.schedule import Draw

TERMS = (Term("edit", "edit", "the velocity of the true edit is predicted (Eq. 1)"),)


def supervised_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: SupervisedConfig,
    backward: Backward,
    prepared: None = None,
) -> StepOutput:
    """Noise the true edit y, and predict its velocity."""
    y_t, u = noised(batch.y, draw.eps, draw.t), draw.eps - batch.y
    terms = {"edit": velocity_mse(G.edit(y_t, draw.t, batch.c, batch.x), u)}
    loss = weighted(TERMS, w, terms)
    backward(loss, "edit")
    return StepOutput(loss.detach(), detached(terms), draw.t)


SUPERVISED = Objective(
    settings=SupervisedConfig,
    terms=TERMS,
    calls=lambda config: Calls(gradients=1),
    step=supervised_step,
)
