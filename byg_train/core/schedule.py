"""The times of training and sampling: draws of t, the grids of rollout and sampler, the shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

TimeDistribution = Literal["uniform", "logit_normal"]
# Times from (included, but for 0) and to (excluded, but for 1): what one expert is for.
Span = tuple[float, float]


class Unroll(NamedTuple):
    """What NP-Edit draws more: how the student is unrolled, and the noise of the scores."""

    grid: Tensor  # (k + 1,): 1, for two evaluations a later time of sampling, and 0
    fresh: Tensor  # like x: of the renoise between the evaluations
    eps: Tensor  # like x: noises what the student drew


class Draw(NamedTuple):
    """The random part of one step: what Algorithm 1 draws in line 2, and how the rollout runs.

    The noise is where x is; all else stays on the CPU, where it is looked at.

    A term that is asked for a share p of the rows only has weights (B,), 1 / p there and 0
    elsewhere: on average the same gradient. None: it is asked for all.
    """

    eps: Tensor  # like x
    t: Tensor  # (B,) in (0, 1], 1 = noise
    grid: Tensor  # (n + 1,), 1 down to 0
    order: int = 1  # of the rollout's solver
    times: int = 1  # so many rows in a row have item, noise and rollout in common
    identity: Tensor | None = None
    prior_rev: Tensor | None = None
    unroll: Unroll | None = None  # for objectives that unroll the editor itself


def sampled_rows(rows: int, p: float, generator: torch.Generator) -> Tensor | None:
    """Weights (rows,) of a term asked for a share p of the rows; None, and no draw, at p = 1.

    Systematic sampling: every row with probability p, evenly spread. Of 8 rows at p = 1/4 there are
    always two, so the estimate scatters less than with a coin for each.
    """
    if p == 1:
        return None
    u = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    steps = (torch.arange(rows + 1, dtype=torch.float64, device=generator.device) * p + u).floor()
    return (steps.diff() / p).float()


def shifted(t: Tensor, shift: float) -> Tensor:
    """Push times towards noise: t' = s t / (1 + (s - 1) t) (Esser et al. 2024, Eq. 23)."""
    return shift * t / (shift * t + (1 - t))  # this form keeps 0 and 1 exact


def draw_t(
    batch: int, generator: torch.Generator, distribution: TimeDistribution, shift: float = 1.0
) -> Tensor:
    """t (B,) in (0, 1] on the generator's device, float32.

    `uniform` is Algorithm 1's U(0, 1), drawn as 1 - rand() so that t = 1 can occur and t = 0
    cannot; `logit_normal` is sigmoid(N(0, 1)). Either is then shifted (video: 12, App. B.2).
    """
    device = generator.device
    if distribution == "uniform":
        u = 1 - torch.rand(batch, generator=generator, device=device)
    else:
        u = torch.randn(batch, generator=generator, device=device).sigmoid()
    return shifted(u, shift)


def share(span: Span, distribution: TimeDistribution, shift: float = 1.0) -> float:
    """The share of `draw_t`'s draws that fall into a span of time."""
    low, high = _cumulative(span, distribution, shift).tolist()
    return high - low


def draw_span(
    spans: dict[str, Span],
    generator: torch.Generator,
    distribution: TimeDistribution,
    shift: float = 1.0,
) -> str:
    """The name of one of the spans, each as often as `draw_t`'s draws fall into it.

    With `draw_t_within` this draws t as `draw_t` does, but a whole batch within one span. Of a
    single span nothing is drawn.
    """
    if len(spans) == 1:
        return next(iter(spans))
    shares = torch.tensor([share(span, distribution, shift) for span in spans.values()])
    drawn = torch.multinomial(shares.to(generator.device), 1, generator=generator)
    return list(spans)[int(drawn)]


def draw_t_within(
    span: Span,
    batch: int,
    generator: torch.Generator,
    distribution: TimeDistribution,
    shift: float = 1.0,
) -> Tensor:
    """t (B,) like `draw_t`'s draws that fall into a span, float32; `draw_t`'s own within (0, 1)."""
    if span == (0, 1):
        return draw_t(batch, generator, distribution, shift)
    double = torch.float64
    p = torch.rand(batch, generator=generator, device=generator.device, dtype=double)
    return _quantiles(p, span, distribution, shift)


def middles_of_t(
    span: Span, number: int, distribution: TimeDistribution, shift: float = 1.0
) -> Tensor:
    """t (number,) in the middles of equally likely parts of a span, float32, rising."""
    p = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    return _quantiles(p, span, distribution, shift)


def _quantiles(p: Tensor, span: Span, distribution: TimeDistribution, shift: float) -> Tensor:
    """The times below which shares p of the draws within a span lie, float32."""
    low, high = _cumulative(span, distribution, shift).tolist()
    p = low + (high - low) * p
    u = p if distribution == "uniform" else torch.special.ndtri(p).sigmoid()
    first, last = torch.tensor(span, device=p.device)
    # Rounding must not carry a time into the next span, where another expert is asked.
    last = last if span[1] == 1 else torch.nextafter(last, first)
    return shifted(u, shift).float().clamp(first.clamp(min=2**-24), last)


def _cumulative(span: Span, distribution: TimeDistribution, shift: float) -> Tensor:
    """P(draw < t) at both ends of a span, (2,): the shift undone, then the distribution's own."""
    u = shifted(torch.tensor(span, dtype=torch.float64), 1 / shift)
    return u if distribution == "uniform" else torch.special.ndtr(torch.logit(u))


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """(steps + 1,) times from 1 to 0: uniform as in Algorithm 1, then shifted."""
    return shifted(torch.linspace(1, 0, steps + 1), shift)


def along(t: Tensor, points: Sequence[tuple[float, float]]) -> Tensor:
    """A function of time at t (B,): straight lines through points (time, value), level beyond.

    Times rise; a single point is a constant.
    """
    value = torch.full_like(t, points[0][1])
    for (start, before), (end, after) in zip(points[:-1], points[1:], strict=True):
        value = value + (after - before) * ((t - start) / (end - start)).clamp(0, 1)
    return value
