"""Where the bottom of the loss lies: what Eq. 5 costs who edits, who copies, and who forgets.

A perfect editor pays the prior twice, since the base never answers quite as the true edit would.
Who answers as the base does pays it nothing, and for cycle and identity what the base errs by
without a source. Which of the two is cheaper is a matter of the weights, and training goes there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..config.methods import BygConfig
from ..core.schedule import along

EDIT, COPY, FORGETTING = "the edit", "a copy", "text-to-image"
# The prior's squared error: what the public ports chose, then more of it.
ALPHAS = (0.1, 0.3, 1.0)
# An alpha is worth leaving the usual one for if it pulls edits so much harder than copies.
WORTH_IT = 1.25
# Beyond this L_dir the true edit lies more than 60 degrees off the base's direction.
UNRELIABLE = 0.5
# A factor that leaves a time out.
OUT = 0.01


class Answer(NamedTuple):
    """What the prior finds in an answer, each (T, N): T times, N items."""

    direction: Tensor  # L_dir
    mse: Tensor  # L_MSE

    def price(self, w: BygConfig) -> Tensor:
        """L_prior (section 4.2)."""
        return w.directional * self.direction + w.alpha * self.mse


class Prices(NamedTuple):
    """What was measured at times t (T,), each a share of the run's draws, on N items."""

    t: Tensor
    share: Tensor  # (T,), summing to 1
    edited: Answer  # forward, of the true edit y: at its noised self, answering eps - y
    copied: Answer  # forward, of a copy: at the noised source, answering eps - x
    back: Answer  # the way back, of both, which find the source: at its noised self, eps - x

    @property
    def forgotten(self) -> Tensor:
        """(T, N): the velocity error of the base under the source's caption, without the source."""
        return self.back.mse

    @property
    def leads_back(self) -> Tensor:
        """(T,): whether the base's direction back is within 60 degrees of the source."""
        return self.back.direction.mean(1) <= UNRELIABLE

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the run's times, (N,)."""
        return self.share @ values


class Recipe(NamedTuple):
    """Weights that put the edit at the bottom."""

    lambda_prior: float
    alpha: float
    prior_by_t: tuple[tuple[float, float], ...]
    balance: float  # the lambda_prior at which forgetting the source costs as much as editing

    @property
    def weights(self) -> dict[str, Any]:
        """The settings, by their names in `BygConfig`."""
        return {k: v for k, v in self._asdict().items() if k != "balance"}


def bottom(p: Prices, w: BygConfig) -> dict[str, Tensor]:
    """The expected loss of an editor that is right, of one that copies, and of the base, (N,)."""
    prior = w.lambda_prior * (along(p.t, w.prior_by_t)[:, None] if w.prior_by_t else 1.0)
    back = w.reverse * p.back.price(w)
    # Steps on the identity alone have weight 1.
    full = 1 - w.identity_probability
    forgetting = full * (w.reverse * w.lambda_cycle + w.lambda_id) + w.identity_probability
    return {
        EDIT: p.mean(full * prior * (p.edited.price(w) + back)),
        COPY: p.mean(full * prior * (p.copied.price(w) + back)),
        FORGETTING: p.mean(forgetting * p.forgotten),
    }


def recommended(p: Prices, w: BygConfig) -> Recipe:
    """Times, alpha and lambda_prior, in this order, each under what was chosen before.

    The times are those at which the true way back has the base's direction. lambda_prior is half
    of what would make forgetting the source as cheap as editing, in one digit.
    """
    w = w.model_copy(update={"prior_by_t": _reliable(p), "lambda_prior": 1.0})

    def pull(alpha: float) -> float:
        """How much dearer a copy is than the edit, at the balance."""
        loss = {k: v.mean() for k, v in bottom(p, w.model_copy(update={"alpha": alpha})).items()}
        return ((loss[COPY] - loss[EDIT]) / loss[EDIT]).item()

    best = max(ALPHAS, key=pull)
    alpha = best if pull(best) > WORTH_IT * max(pull(ALPHAS[0]), 0) else ALPHAS[0]
    loss = bottom(p, w.model_copy(update={"alpha": alpha}))
    balance = (loss[FORGETTING].mean() / loss[EDIT].mean()).item()
    return Recipe(float(f"{balance / 2:.1g}"), alpha, w.prior_by_t, balance)


def _reliable(p: Prices) -> tuple[tuple[float, float], ...]:
    """Points of a factor of 1 or `OUT`, if not all times are to be relied on, or none is."""
    order = p.t.argsort()
    fits = p.leads_back[order]
    if fits.all() or not fits.any():
        return ()
    times = p.t[order].tolist()
    points = [(round(t, 3), 1.0 if fit else OUT) for t, fit in zip(times, fits, strict=True)]
    factors = [factor for _, factor in points]
    # Between two alike, and before or after the last change, a point says nothing.
    around = zip([factors[0], *factors], points, [*factors[1:], factors[-1]], strict=False)
    return tuple(p for before, p, after in around if not before == p[1] == after)
