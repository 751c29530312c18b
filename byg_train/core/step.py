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
    y: Tensor | None = None  # the true edit, which `supervised_step` alone may see


class Weights(NamedTuple):
    """The lambdas of Eq. 5, the alpha of section 4.2, and what section 6 leaves out of them."""

    cycle: float = 1.0
    prior: float = 1.0
    identity: float = 0.2
    alpha: float = 0.1
    directional: float = 1.0  # of L_dir inside the prior
    bootstrapping: bool = True  # False: the forward pass gets x_t for y_t
    routing: bool = True  # False: the reverse pass sees y_hat, not y_0
    reverse: bool = True  # False: no reverse pass, so neither cycle nor reverse prior


class StepOutput(NamedTuple):
    """The weighted total () and every term (B,), detached; t (B,) for logging by noise level.

    A pass that counts for nothing is not made, and its terms are missing: identity at weight 0,
    cycle and reverse prior without the reverse pass.
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
    terms = {"prior_fwd": _prior(w, v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt))}

    # Cycle (4.3): the reverse edit sees the clean y_0 and teaches through y_hat
    if w.reverse:
        y_hyb = route_gradient(seen=y_0, learned=y_hat) if w.routing else y_hat
        v_rev = G.edit(x_t, t, c_inv, y_hyb)
        terms["cycle"] = velocity_mse(v_rev, u)
        terms["prior_rev"] = _prior(w, v_rev, *_caption_pair(G.base, x_t, t, p_tgt, p_src))

    # Identity: an edit that is already fulfilled changes nothing
    if w.identity:
        terms["identity"] = velocity_mse(G.edit(x_t, t, c_inv, x), u)

    # Eq. 5
    return StepOutput(_total(w, terms), _detached(terms), t)


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
    x, c, c_inv, p_src, p_tgt = batch[:5]
    eps, t = draw.eps, draw.t
    x_t, u = noised(x, eps, t), eps - x
    y_t, y_0 = dreamt or dream(G, batch, draw)
    if not w.bootstrapping:
        y_t = x_t

    # 1. Identity
    terms = {}
    if w.identity:
        terms["identity"] = velocity_mse(G.edit(x_t, t, c_inv, x), u)
        backward(w.identity * terms["identity"].mean())

    # 2. Reverse: cycle and reverse prior; keep what reaches the edit
    g = torch.zeros_like(x)
    if w.reverse:
        seen = y_0 if w.routing else _one_step_ahead(G, batch, y_t, t)
        y_hyb = seen.detach().requires_grad_()
        v_rev = G.edit(x_t, t, c_inv, y_hyb)
        terms["cycle"] = velocity_mse(v_rev, u)
        terms["prior_rev"] = _prior(w, v_rev, *_caption_pair(G.base, x_t, t, p_tgt, p_src))
        factor = backward((w.cycle * terms["cycle"] + w.prior * terms["prior_rev"]).mean())
        g = _float(y_hyb.grad) / factor

    # 3. Forward: forward prior and the routed gradient
    v_fwd = G.edit(y_t, t, c, x)
    terms["prior_fwd"] = _prior(w, v_fwd, *_caption_pair(G.base, y_t, t, p_src, p_tgt))
    routed = (at_rank(t, g) * g * _float(v_fwd)).sum()
    backward(w.prior * terms["prior_fwd"].mean() - routed)

    terms = _detached(terms)
    return StepOutput(_total(w, terms), terms, t)


def _one_step_ahead(G: Roles, batch: EditBatch, y_t: Tensor, t: Tensor) -> Tensor:
    """The value of y_hat, at one more forward: without routing the reverse pass needs it first."""
    with torch.no_grad():
        return one_step(y_t, G.edit(y_t, t, batch.c, batch.x), t)


def _prior(w: Weights, v: Tensor, v_src: Tensor, v_tgt: Tensor) -> Tensor:
    return prior_loss(v, v_src, v_tgt, w.alpha, w.directional)


def _total(w: Weights, terms: dict[str, Tensor]) -> Tensor:
    """Eq. 5, the mean over the batch: ()."""
    weight = dict(cycle=w.cycle, prior_fwd=w.prior, prior_rev=w.prior, identity=w.identity)
    return sum(weight[name] * term for name, term in terms.items()).mean()


def identity_step(G: Roles, batch: EditBatch, draw: Draw, backward: Backward) -> StepOutput:
    """The identity loss alone at weight 1: the warm-up, and B.1's random identity steps."""
    x_t, u = noised(batch.x, draw.eps, draw.t), draw.eps - batch.x
    identity = velocity_mse(G.edit(x_t, draw.t, batch.c_inv, batch.x), u)
    backward(identity.mean())
    return StepOutput(identity.mean().detach(), _detached(dict(identity=identity)), draw.t)


def supervised_step(G: Roles, batch: EditBatch, draw: Draw, backward: Backward) -> StepOutput:
    """Eq. 1, for those who have pairs: noise the true edit y, and predict its velocity."""
    y_t, u = noised(batch.y, draw.eps, draw.t), draw.eps - batch.y
    edit = velocity_mse(G.edit(y_t, draw.t, batch.c, batch.x), u)
    backward(edit.mean())
    return StepOutput(edit.mean().detach(), _detached(dict(edit=edit)), draw.t)


def _float(a: Tensor) -> Tensor:
    return a.to(torch.promote_types(a.dtype, torch.float32))


def _detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
