"""The identity loss alone: the warm-up of every objective, and B.1's random identity steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.methods import MethodConfig
from ..core.flow import noised
from ..core.losses import velocity_mse
from .objective import Backward, Calls, Objective, StepOutput, Term, detached, weighted

if TYPE_CHECKING:
    from ..core.roles import EditBatch, Roles
    from ..core.schedule import Draw

IDENTITY_LOSS = Term("identity", "id", "an edit that is already made changes nothing (L_id)")


def identity_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: MethodConfig,
    backward: Backward,
    prepared: None = None,
) -> StepOutput:
    """L_id at weight 1 (section 4.3): under the inverse instruction the source stays as it is."""
    x_t, u = noised(batch.x, draw.eps, draw.t), draw.eps - batch.x
    terms = {"identity": velocity_mse(G.edit(x_t, draw.t, batch.c_inv, batch.x), u)}
    loss = weighted([IDENTITY_LOSS], w, terms)
    backward(loss, "identity")
    return StepOutput(loss.detach(), detached(terms), draw.t)


IDENTITY = Objective(
    settings=MethodConfig,
    terms=(IDENTITY_LOSS,),
    calls=lambda config: Calls(gradients=1),
    step=identity_step,
)
