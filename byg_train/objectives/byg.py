"""Algorithm 1 of the paper, twice: `byg_step` to read, `staged_step` to train with.

Both give the gradient of Eq. 5. The joint form holds the forward and the reverse graph at once; the
staged form backpropagates one graph at a time, at the memory of one supervised step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..config.methods import BygConfig
from ..core.flow import at_rank, noised, one_step, rollout_steps, route_gradient
from ..core.losses import prior_loss, velocity_mse
from ..core.roles import rows
from ..core.schedule import along
from .bottom import bottom
from .identity import IDENTITY_LOSS
from .objective import Advice, Backward, Calls, Objective, StepOutput, Term, detached, weighted

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..core.roles import EditBatch, Roles, Text, Velocity
    from ..core.schedule import Draw

# Eq. 5. Routing takes the gradients of cycle and reverse prior on into the forward pass, where that
# of the reverse prior cannot be told from the forward prior's own.
TERMS = (
    Term(
        name="cycle",
        label="cyc",
        about="editing back finds the source (Eq. 3)",
        weight="lambda_cycle",
        stages=("reverse", "forward"),
    ),
    Term(
        name="prior_fwd",
        label="pri→",
        about="the edit goes where the captions pull the base (Eq. 2)",
        weight="lambda_prior",
        stages=("forward",),
    ),
    Term(
        name="prior_rev",
        label="pri←",
        about="so does the way back",
        weight="lambda_prior",
        stages=("reverse",),
    ),
    IDENTITY_LOSS._replace(weight="lambda_id", stages=("identity",)),
)


# Micro-batches and what is drawn for each.
Group = list[tuple["EditBatch", "Draw"]]


class Dream(NamedTuple):
    """A noisy pseudo-target y_t and the clean edit y_0, like x."""

    y_t: Tensor
    y_0: Tensor


def _caption_pair(
    base: Velocity, z_t: Tensor, t: Tensor, src: Text, tgt: Text
) -> tuple[Tensor, Tensor]:
    """v_src and v_tgt: where the frozen base would go from this state under either caption."""
    with torch.no_grad():
        return base(z_t, t, src), base(z_t, t, tgt)


def dream(G: Roles, batch: EditBatch, draw: Draw) -> Dream:
    """Lines 5-11: the EMA editor dreams the edit that no dataset holds."""
    return dream_together(G, [(batch, draw)])[0]


def dream_together(G: Roles, work: Group) -> list[Dream]:
    """The dreams of several micro-batches, in step: all at one grid time before any at the next.

    So where spans of time have networks of their own (Wan's experts), each is needed once. Rows
    with item and noise in common (`Draw.times`) share one rollout: y_t at each one's own time.
    """

    def rolling(group: Group) -> Iterator[tuple[Tensor, Tensor]]:
        batch, draw = group[0]
        one = None if draw.times == 1 else slice(None, None, draw.times)
        x, c, eps = (rows(of, one) for of in (batch.x, batch.c, draw.eps))
        t = torch.cat([draw.t for _, draw in group])
        return rollout_steps(lambda y, s: G.ema(y, s, c, x), eps, draw.grid, t, draw.order)

    groups = list(_with_one_rollout(work))
    with torch.no_grad():
        for states in zip(*(rolling(group) for group in groups), strict=True):
            last = states
    return [
        dream for group, state in zip(groups, last, strict=True) for dream in _share(group, *state)
    ]


def _with_one_rollout(work: Group) -> Iterator[Group]:
    """Micro-batches in a row that share their rollout; each alone, where it holds all its times."""
    first = 0
    while first < len(work):
        batch, draw = work[first]
        number = max(1, draw.times // len(batch.x))
        yield work[first : first + number]
        first += number


def _share(group: Group, y_t: Tensor, y_0: Tensor) -> Iterator[Dream]:
    """The rollout's states, for the rows of each micro-batch."""
    y_0 = y_0.repeat_interleave(len(y_t) // len(y_0), 0)
    number = len(group)
    return (Dream(*of) for of in zip(y_t.chunk(number), y_0.chunk(number), strict=True))


def byg_step(G: Roles, batch: EditBatch, draw: Draw, w: BygConfig) -> StepOutput:
    """Algorithm 1, lines 2-34, in one graph. The caller backpropagates `loss`."""
    x, c, c_inv, p_src, p_tgt = batch[:5]
    eps, t = draw.eps, draw.t
    x_t, u = noised(x, eps, t), eps - x

    # Bootstrap (4.1): the noisy pseudo-target and the clean edit
    y_t, y_0 = dream(G, batch, draw)
    if not w.bootstrapping:
        y_t = x_t

    # Forward pass: predict the edit velocity
    v_fwd = G.edit(y_t, t, c, x)
    y_hat = one_step(y_t, v_fwd, t)

    # Prior (4.2): align with the direction in which the captions pull the base
    terms = {"prior_fwd": _prior(w, t, v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt))}

    # Cycle (4.3): the reverse edit sees the clean y_0 and teaches through y_hat
    if w.reverse:
        y_hyb = route_gradient(seen=y_0, learned=y_hat) if w.routing else y_hat
        v_rev = G.edit(x_t, t, c_inv, y_hyb)
        terms["cycle"] = velocity_mse(v_rev, u)
        terms["prior_rev"] = _reverse_prior(G, batch, draw, w, x_t, v_rev)

    # Identity: an edit that is already fulfilled changes nothing
    if w.lambda_id:
        terms["identity"] = _identity(G, batch, draw, x_t, u)

    # Eq. 5
    return StepOutput(weighted(TERMS, w, terms), detached(terms), t)


def staged_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: BygConfig,
    backward: Backward,
    dreamt: Dream | None = None,
) -> StepOutput:
    """Algorithm 1 with one graph alive at a time; leaves the gradient of Eq. 5 in the weights.

    The value of y_hyb is y_0, which does not depend on v_fwd. So the reverse pass can be
    backpropagated first, with y_0 as a leaf; what arrives there, g, is all that the forward pass
    needs to know: d y_hat / d v_fwd = -t, hence the surrogate -sum(t g v_fwd). It is a sum because
    g already carries the mean's 1/B. `dreamt` comes from `dream_together`.
    """
    x, c, c_inv, p_src, p_tgt = batch[:5]
    eps, t = draw.eps, draw.t
    x_t, u = noised(x, eps, t), eps - x
    y_t, y_0 = dreamt or dream(G, batch, draw)
    if not w.bootstrapping:
        y_t = x_t

    # 1. Identity
    identity = {}
    if w.lambda_id:
        identity = {"identity": _identity(G, batch, draw, x_t, u)}
        if identity["identity"].requires_grad:  # else no row was drawn for it
            backward(weighted(TERMS, w, identity), "identity")

    # 2. Reverse: cycle and reverse prior; keep what reaches the edit
    reverse, g = {}, torch.zeros_like(x)
    if w.reverse:
        seen = y_0 if w.routing else _one_step_ahead(G, batch, y_t, t)
        y_hyb = seen.detach().requires_grad_()
        v_rev = G.edit(x_t, t, c_inv, y_hyb)
        reverse["cycle"] = velocity_mse(v_rev, u)
        reverse["prior_rev"] = _reverse_prior(G, batch, draw, w, x_t, v_rev)
        factor = backward(weighted(TERMS, w, reverse), "reverse")
        g = _float(y_hyb.grad) / factor

    # 3. Forward: forward prior and the routed gradient
    v_fwd = G.edit(y_t, t, c, x)
    forward = {"prior_fwd": _prior(w, t, v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt))}
    routed = (at_rank(t, g) * g * _float(v_fwd)).sum()
    backward(weighted(TERMS, w, forward) - routed, "forward")

    terms = detached(identity | reverse | forward)
    return StepOutput(weighted(TERMS, w, terms), terms, t)


def _one_step_ahead(G: Roles, batch: EditBatch, y_t: Tensor, t: Tensor) -> Tensor:
    """The value of y_hat, at one more forward: without routing the reverse pass needs it first."""
    with torch.no_grad():
        return one_step(y_t, G.edit(y_t, t, batch.c, batch.x), t)


def _identity(G: Roles, batch: EditBatch, draw: Draw, x_t: Tensor, u: Tensor) -> Tensor:
    """L_id of the rows drawn for it, (B,)."""

    def loss(at: Tensor | None) -> Tensor:
        state, t, c_inv, x = (rows(of, at) for of in (x_t, draw.t, batch.c_inv, batch.x))
        return velocity_mse(G.edit(state, t, c_inv, x), rows(u, at))

    return _of_drawn_rows(draw.identity, loss, u)


def _reverse_prior(
    G: Roles, batch: EditBatch, draw: Draw, w: BygConfig, x_t: Tensor, v_rev: Tensor
) -> Tensor:
    """The prior of the way back, of the rows drawn for it, (B,)."""

    def loss(at: Tensor | None) -> Tensor:
        state, t, src, tgt = (rows(of, at) for of in (x_t, draw.t, batch.p_tgt, batch.p_src))
        return _prior(w, t, rows(v_rev, at), *_caption_pair(G.base, state, t, src, tgt))

    return _of_drawn_rows(draw.prior_rev, loss, v_rev)


def _of_drawn_rows(
    weights: Tensor | None, loss: Callable[[Tensor | None], Tensor], like: Tensor
) -> Tensor:
    """A loss (B,) asked for the rows with a weight, times that weight; 0 elsewhere."""
    if weights is None:
        return loss(None)
    at = weights.nonzero()[:, 0]
    whole = _float(like.new_zeros(len(weights)))
    if not len(at):
        return whole
    drawn = loss(at)
    there, weight = (a.to(drawn.device, non_blocking=True) for a in (at, weights[at]))
    return whole.index_add(0, there, drawn * weight)


def _prior(w: BygConfig, t: Tensor, v: Tensor, v_src: Tensor, v_tgt: Tensor) -> Tensor:
    loss = prior_loss(v, v_src, v_tgt, w.alpha, w.directional)
    return loss * along(t, w.prior_by_t) if w.prior_by_t else loss


def _float(a: Tensor) -> Tensor:
    return a.to(torch.promote_types(a.dtype, torch.float32))


def _calls(config: TrainConfig) -> Calls:
    m, rollout = config.method, config.rollout
    return Calls(
        gradients=1 + m.reverse + m.identity_rate * bool(m.lambda_id),
        edit=int(m.reverse and not m.routing),
        ema=rollout.steps / rollout.times,
        base=2 + 2 * m.prior_rev_rate * m.reverse,
    )


BYG = Objective(
    settings=BygConfig,
    terms=TERMS,
    calls=_calls,
    step=staged_step,
    prepare=dream_together,
    joint=byg_step,
    bottom=bottom,
    advice=Advice(
        collapse="raise method.lambda_prior (of a gentle end method.gentle_prior) or train longer",
        drift="lower method.lambda_prior (of a gentle end method.gentle_prior) or optimizer.lr",
        lost="lower method.lambda_prior and alpha, or those of a gentle end (method.gentle_from, "
        "gentle_prior, gentle_alpha); --resume takes all of them",
    ),
)
