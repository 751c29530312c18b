"""Algorithm 1 of the paper, twice: `byg_step` to read, `staged_step` to train with.

Both give the gradient of Eq. 5. The joint form holds the forward and the reverse graph at once; the
staged form backpropagates one graph at a time, at the memory of one supervised step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .flow import at_rank, noised, one_step, rollout_steps, route_gradient
from .losses import prior_loss, velocity_mse
from .schedule import Draw

Text = Any  # prompt embeddings, opaque here


class Velocity(Protocol):
    """(x_t (B, ...), t (B,), text, source like x_t or None) -> v like x_t."""

    def __call__(self, x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        """Predict the velocity at (x_t, t)."""


class Roles(NamedTuple):
    """The three networks of Algorithm 1, usually one set of weights (`lora.LoraBank`)."""

    edit: Velocity  # G_edit, trains
    ema: Velocity  # G_EMA, dreams the targets
    base: Velocity  # G_T2I, frozen; called without a source


class EditBatch(NamedTuple):
    """Training tuples (x, c, c_inv, p_src, p_tgt); line 2. Latents are (B, C, F, H, W)."""

    x: Tensor
    c: Text
    c_inv: Text
    p_src: Text
    p_tgt: Text


class Weights(NamedTuple):
    """The lambdas of Eq. 5 and the alpha of section 4.2."""

    cycle: float = 1.0
    prior: float = 1.0
    identity: float = 0.2
    alpha: float = 0.1


class StepOutput(NamedTuple):
    """The weighted total () and every term (B,), detached; t (B,) for logging by noise level.

    Identity is not computed, and not among the terms, at weight 0: it is a whole pass.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    t: Tensor


class Dream(NamedTuple):
    """A noisy pseudo-target y_t and the clean edit y_0, like x."""

    y_t: Tensor
    y_0: Tensor


# Backpropagates a scalar and returns the factor by which it scaled it (accumulation, loss scaler).
Backward = Callable[[Tensor], float]


def _caption_pair(
    base: Velocity, z_t: Tensor, t: Tensor, src: Text, tgt: Text
) -> tuple[Tensor, Tensor]:
    """v_src and v_tgt: where the frozen base would go from this state under either caption."""
    with torch.no_grad():
        return base(z_t, t, src), base(z_t, t, tgt)


def dream(G: Roles, batch: EditBatch, draw: Draw) -> Dream:
    """Lines 5-11: the EMA editor dreams the edit that no dataset holds."""
    return dream_together(G, [(batch, draw)])[0]


def dream_together(G: Roles, work: list[tuple[EditBatch, Draw]]) -> list[Dream]:
    """The dreams of several micro-batches, in step: all at one grid time before any at the next.

    So where spans of time have networks of their own (Wan's experts), each is needed once.
    """

    def rolling(batch: EditBatch, draw: Draw) -> Iterator[tuple[Tensor, Tensor]]:
        def velocity(y: Tensor, s: Tensor) -> Tensor:
            return G.ema(y, s, batch.c, batch.x)

        return rollout_steps(velocity, draw.eps, draw.grid, draw.t)

    with torch.no_grad():
        for states in zip(*(rolling(*one) for one in work), strict=True):
            last = states
    return [Dream(*state) for state in last]


def byg_step(G: Roles, batch: EditBatch, draw: Draw, w: Weights) -> StepOutput:
    """Algorithm 1, lines 2-34, in one graph. The caller backpropagates `loss`."""
    x, c, c_inv, p_src, p_tgt = batch
    eps, t = draw.eps, draw.t

    # Bootstrap (4.1): the noisy pseudo-target and the clean edit
    y_t, y_0 = dream(G, batch, draw)

    # Forward pass: predict the edit velocity
    v_fwd = G.edit(y_t, t, c, x)
    y_hat = one_step(y_t, v_fwd, t)

    # Prior (4.2): align with the direction in which the captions pull the base
    prior_fwd = prior_loss(v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt), w.alpha)

    # Cycle (4.3): the reverse edit sees the clean y_0 and teaches through y_hat
    x_t, u = noised(x, eps, t), eps - x
    v_rev = G.edit(x_t, t, c_inv, route_gradient(seen=y_0, learned=y_hat))
    cycle = velocity_mse(v_rev, u)
    prior_rev = prior_loss(v_rev, *_caption_pair(G.base, x_t, t, p_tgt, p_src), w.alpha)

    # Eq. 5
    terms = dict(cycle=cycle, prior_fwd=prior_fwd, prior_rev=prior_rev)
    loss = w.cycle * cycle + w.prior * (prior_fwd + prior_rev)

    # Identity: an edit that is already fulfilled changes nothing
    if w.identity:
        terms["identity"] = velocity_mse(G.edit(x_t, t, c_inv, x), u)
        loss = loss + w.identity * terms["identity"]
    return StepOutput(loss.mean(), _detached(terms), t)


def staged_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: Weights,
    backward: Backward,
    dreamt: Dream | None = None,
) -> StepOutput:
    """Algorithm 1 with one graph alive at a time; leaves the gradient of Eq. 5 in the weights.

    The value of y_hyb is y_0, which does not depend on v_fwd. So the reverse pass can be
    backpropagated first, with y_0 as a leaf; what arrives there, g, is all that the forward pass
    needs to know: d y_hat / d v_fwd = -t, hence the surrogate -sum(t g v_fwd). It is a sum because
    g already carries the mean's 1/B. `dreamt` comes from `dream_together`.
    """
    x, c, c_inv, p_src, p_tgt = batch
    eps, t = draw.eps, draw.t
    y_t, y_0 = dreamt or dream(G, batch, draw)
    x_t, u = noised(x, eps, t), eps - x

    # 1. Identity
    terms = {}
    if w.identity:
        terms["identity"] = velocity_mse(G.edit(x_t, t, c_inv, x), u)
        backward(w.identity * terms["identity"].mean())

    # 2. Reverse: cycle and reverse prior; keep what reaches the edit
    y_hyb = y_0.detach().requires_grad_()
    v_rev = G.edit(x_t, t, c_inv, y_hyb)
    cycle = velocity_mse(v_rev, u)
    prior_rev = prior_loss(v_rev, *_caption_pair(G.base, x_t, t, p_tgt, p_src), w.alpha)
    factor = backward((w.cycle * cycle + w.prior * prior_rev).mean())
    g = _float(y_hyb.grad) / factor

    # 3. Forward: forward prior and the routed gradient
    v_fwd = G.edit(y_t, t, c, x)
    prior_fwd = prior_loss(v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt), w.alpha)
    routed = (at_rank(t, g) * g * _float(v_fwd)).sum()
    backward(w.prior * prior_fwd.mean() - routed)

    terms = _detached(dict(cycle=cycle, prior_fwd=prior_fwd, prior_rev=prior_rev) | terms)
    loss = w.cycle * terms["cycle"] + w.prior * (terms["prior_fwd"] + terms["prior_rev"])
    if w.identity:
        loss = loss + w.identity * terms["identity"]
    return StepOutput(loss.mean(), terms, t)


def identity_step(G: Roles, batch: EditBatch, draw: Draw, backward: Backward) -> StepOutput:
    """The identity loss alone at weight 1: the warm-up, and B.1's random identity steps."""
    x_t, u = noised(batch.x, draw.eps, draw.t), draw.eps - batch.x
    identity = velocity_mse(G.edit(x_t, draw.t, batch.c_inv, batch.x), u)
    backward(identity.mean())
    return StepOutput(identity.mean().detach(), _detached(dict(identity=identity)), draw.t)


def _float(a: Tensor) -> Tensor:
    return a.to(torch.promote_types(a.dtype, torch.float32))


def _detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
