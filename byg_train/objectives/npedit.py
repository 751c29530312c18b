"""NP-Edit (Kumari et al., ICLR 2026): a few-step editor without pairs, from a critic and DMD.

The student G.edit is unrolled as it will be sampled. A critic answers questions about the result,
and distribution matching keeps it among what the teacher draws: its gradient is the difference of
two estimates, by the teacher and by an auxiliary that is trained on what the student draws.
`npedit_joint` is the step to read; `npedit_step` leaves the same gradient one graph at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..config.methods import NpEditConfig
from ..core.critic import NOTHING
from ..core.flow import at_rank, few_steps, noised, one_step
from ..core.losses import distribution_matching_loss, velocity_mse
from .objective import (
    Backward,
    Calls,
    Helper,
    Objective,
    StepOutput,
    Term,
    detached,
    weighted,
)

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..core.roles import EditBatch, Roles, Text
    from ..core.schedule import Draw

TERMS = (
    Term("edit", "edit", "the critic says that it is done", "critic_weight", ("student",)),
    Term("kept", "kept", "and that all else is as it was", "critic_weight", ("student",)),
    Term("dmd", "dmd", "edits look like what the teacher draws", "dmd_weight", ("student",)),
    Term("nothing", "nil", "asked to do nothing, it does nothing", "nothing_weight"),
)
AUXILIARY_LOSS = Term("auxiliary", "aux", "the auxiliary knows what the student draws")
# The critic's kinds of question -> terms.
ANSWERS = {"edit": "edit", "identity": "kept"}
# Times of the scores (NPC, DMD2): nearer to either end, one estimate or both say nothing.
SCORED = (0.02, 0.98)


class Evaluation(NamedTuple):
    """The student is asked at (y_t, t); y_t is noise, or an x_hat that was noised anew."""

    y_t: Tensor
    t: Tensor  # (B,)


# ---------------------------------------------------------------- the student


def npedit_joint(G: Roles, batch: EditBatch, draw: Draw, w: NpEditConfig) -> StepOutput:
    """The student's step in one graph, through both evaluations, the decoder and the critic."""
    x_0 = _unrolled(G, batch, draw)
    terms = _judged(G, batch, draw, w, x_0)
    return StepOutput(weighted(TERMS, w, terms), detached(terms), draw.t)


def npedit_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: NpEditConfig,
    backward: Backward,
    prepared: None = None,
) -> StepOutput:
    """The same gradient with one graph alive at a time, for one more forward per evaluation.

    All losses are of the sample x_0 alone. So their graph (the VAE's decoder and the critic, which
    cannot be parted: what is between them is the decoded picture) is backpropagated first, down to
    x_0 as a leaf. Then every evaluation is made again, the last one first, with what has arrived at
    its x_hat, and hands on what arrives at its own y_t.
    """
    asked: list[Evaluation] = []
    with torch.no_grad():
        x_0 = _unrolled(G, batch, draw, lambda y_t, t: asked.append(Evaluation(y_t, t)))

    # 1. What the sample should be like
    x_0 = x_0.detach().requires_grad_()
    terms = _judged(G, batch, draw, w, x_0)
    loss = weighted(TERMS, w, terms)
    factor = backward(loss, "sample")
    g = x_0.grad / factor

    # 2. Back through the evaluations
    for y_t, t in reversed(asked):
        y_t = y_t.detach().requires_grad_()
        x_hat = one_step(y_t, G.edit(y_t, t, batch.c, batch.x), t)
        factor = backward((g * x_hat).sum(), "student")
        g = at_rank(1 - t, y_t) * y_t.grad / factor  # y_t = (1 - t) x_hat + t fresh
    return StepOutput(loss.detach(), detached(terms), draw.t)


def _unrolled(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    each: Callable[[Tensor, Tensor], None] = lambda y_t, t: None,
) -> Tensor:
    """x_0 from noise in one or two evaluations, with fresh noise between them."""

    def predict(y_t: Tensor, t: Tensor) -> Tensor:
        each(y_t, t)
        return one_step(y_t, G.edit(y_t, t, batch.c, batch.x), t)

    return few_steps(predict, draw.eps, draw.unroll.grid, iter([draw.unroll.fresh]))


# ---------------------------------------------------------------- what a sample should be like


def _judged(
    G: Roles, batch: EditBatch, draw: Draw, w: NpEditConfig, x_0: Tensor
) -> dict[str, Tensor]:
    """The terms of a sample, each (B,)."""
    terms = {}
    if w.critic_weight:
        answers = G.judge(batch.x, x_0, batch.asks)
        terms = {ANSWERS[kind]: loss for kind, loss in answers.items()}
    if w.dmd_weight:
        terms["dmd"] = _matching(G, batch, draw, w, x_0)
    still = torch.tensor([ask.edit_type == NOTHING for ask in batch.asks]).to(x_0)
    if w.nothing_weight:
        terms["nothing"] = still * velocity_mse(x_0, batch.x)
    return terms


def _matching(G: Roles, batch: EditBatch, draw: Draw, w: NpEditConfig, x_0: Tensor) -> Tensor:
    """DMD (B,): teacher and auxiliary estimate the sample from the same noised state of it."""
    with torch.no_grad():
        t = draw.t.clamp(*SCORED)
        x_t = noised(x_0, draw.unroll.eps, t)
        text, source = _shown(batch, w)
        x_real = one_step(x_t, _taught(G, batch, w, x_t, t), t)
        x_fake = one_step(x_t, G.aux(x_t, t, text, source), t)
    return distribution_matching_loss(x_0, x_real, x_fake)


def _taught(G: Roles, batch: EditBatch, w: NpEditConfig, x_t: Tensor, t: Tensor) -> Tensor:
    """The teacher's velocity, guided as the types of edit ask for."""
    text, source = _shown(batch, w)
    teacher = G.teacher if w.sees_source else G.base
    v = teacher(x_t, t, text, source)
    weights = x_t.new_tensor([w.guidance(ask.edit_type) for ask in batch.asks])
    if (weights == 1).all():
        return v
    v_neg = teacher(x_t, t, batch.negative, source)
    return v_neg + at_rank(weights, v) * (v - v_neg)


def _shown(batch: EditBatch, w: NpEditConfig) -> tuple[Text, Tensor | None]:
    """What teacher and auxiliary see: the edit's caption, or the instruction and the source."""
    return (batch.c, batch.x) if w.sees_source else (batch.p_tgt, None)


# ---------------------------------------------------------------- the auxiliary


def student_samples(G: Roles, work: list[tuple[EditBatch, Draw]]) -> list[Tensor]:
    """What the student draws now, for the auxiliary to learn from."""
    with torch.no_grad():
        return [_unrolled(G, batch, draw) for batch, draw in work]


def auxiliary_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: NpEditConfig,
    backward: Backward,
    x_0: Tensor,
) -> StepOutput:
    """Flow matching (Eq. 1) on the student's samples, under what the teacher sees."""
    x_t, u = noised(x_0, draw.unroll.eps, draw.t), draw.unroll.eps - x_0
    text, source = _shown(batch, w)
    terms = {AUXILIARY_LOSS.name: velocity_mse(G.aux(x_t, draw.t, text, source), u)}
    loss = weighted([AUXILIARY_LOSS], w, terms)
    backward(loss, "auxiliary")
    return StepOutput(loss.detach(), detached(terms), draw.t)


# ---------------------------------------------------------------- the records


def _evaluations(config: TrainConfig) -> float:
    """Of the student in an unroll, on average."""
    return 2 - 1 / config.sample.steps


def _calls(config: TrainConfig) -> Calls:
    """A step of the student, and the auxiliary's updates before it."""
    w, deep = config.method, _evaluations(config)
    own = _auxiliary_calls(config) if w.dmd_weight else Calls(gradients=0)
    updates = w.aux_updates if w.dmd_weight else 0
    return Calls(
        gradients=deep,
        edit=deep + updates * own.edit,
        aux=bool(w.dmd_weight),
        aux_gradients=updates,
        teacher=(1 + w.guides) * bool(w.dmd_weight),
        critic=bool(w.critic_weight),
    )


def _auxiliary_calls(config: TrainConfig) -> Calls:
    return Calls(gradients=0, aux_gradients=1, edit=_evaluations(config))


AUXILIARY = Objective(
    settings=NpEditConfig,
    terms=(AUXILIARY_LOSS,),
    calls=_auxiliary_calls,
    step=auxiliary_step,
    prepare=student_samples,
)


def _adapters(config: TrainConfig) -> tuple[str, ...]:
    w: Any = config.method
    needed = {"aux": w.dmd_weight > 0, "teacher": w.dmd_weight > 0 and w.sees_source}
    return tuple(role for role, there in needed.items() if there)


# No alarms: what they look at, at any time t, a few-step editor is never asked.
NPEDIT = Objective(
    settings=NpEditConfig,
    terms=TERMS,
    calls=_calls,
    step=npedit_step,
    joint=npedit_joint,
    adapters=_adapters,
    helper=Helper("aux", AUXILIARY, lambda config: config.method.aux_updates),
)
