"""Draws of t for one expert at a time: as often and as distributed as free draws fall there."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from byg_train.core.schedule import draw_span, draw_t, draw_t_within, middles_of_t, share

SPANS = {"high": (0.875, 1.0), "low": (0.0, 0.875)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_wans_high_expert_gets_seventy_percent() -> None:
    """t >= 0.875 with shift 12 is u >= 7/19, whose logit is ln(7/12)."""
    high, low = (share(span, "logit_normal", 12.0) for span in SPANS.values())
    assert high == pytest.approx(NormalDist().cdf(-math.log(7 / 12)), abs=1e-12)
    assert high == pytest.approx(0.705, abs=1e-3)
    assert high + low == pytest.approx(1)
    assert share((0.25, 0.75), "uniform") == pytest.approx(0.5)
    assert share((0.0, 0.75), "uniform", 3.0) == pytest.approx(0.5)
    assert share((0.0, 1.0), "logit_normal", 12.0) == 1


@pytest.mark.parametrize(("distribution", "shift"), [("logit_normal", 12.0), ("uniform", 3.0)])
def test_free_draws_fall_into_a_span_by_its_share(distribution: str, shift: float) -> None:
    t, n = draw_t(40_000, generator(), distribution, shift), 40_000
    g = generator(1)
    names = [draw_span(SPANS, g, distribution, shift) for _ in range(2000)]
    for name, (first, last) in SPANS.items():
        p = share((first, last), distribution, shift)
        inside = ((t >= first) & (t < last) | (t == last) & (last == 1)).float().mean().item()
        assert abs(inside - p) < 4 * math.sqrt(p * (1 - p) / n)
        assert abs(names.count(name) / 2000 - p) < 4 * math.sqrt(p * (1 - p) / 2000)


@pytest.mark.parametrize(("distribution", "shift"), [("logit_normal", 12.0), ("uniform", 3.0)])
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_draws_within_a_span_are_free_draws_that_fell_there(
    span: tuple[float, float], distribution: str, shift: float
) -> None:
    free = draw_t(60_000, generator(), distribution, shift)
    free = free[(free >= span[0]) & (free < span[1])].sort().values
    ours = draw_t_within(span, 20_000, generator(1), distribution, shift)
    assert ours.dtype == torch.float32
    assert distance(ours, free) < 1.95 * math.sqrt(1 / len(ours) + 1 / len(free))


def test_a_span_of_everything_is_drawn_as_free_draws_are() -> None:
    """So a base of one network draws what it always drew."""
    for distribution, shift in (("logit_normal", 12.0), ("uniform", 1.0)):
        a, b = generator(), generator()
        one = {"transformer": (0.0, 1.0)}
        assert draw_span(one, a, distribution, shift) == "transformer"
        within = draw_t_within((0.0, 1.0), 5, a, distribution, shift)
        assert torch.equal(within, draw_t(5, b, distribution, shift))
        assert torch.equal(a.get_state(), b.get_state())


def test_middles_divide_a_span_into_equally_likely_parts() -> None:
    for span in SPANS.values():
        t = middles_of_t(span, 4, "logit_normal", 12.0)
        assert (t[1:] > t[:-1]).all() and span[0] <= t[0] and t[-1] < span[1]
        whole = share(span, "logit_normal", 12.0)
        below = [share((span[0], float(one)), "logit_normal", 12.0) / whole for one in t]
        assert below == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8], abs=1e-5)
    assert torch.equal(middles_of_t((0.0, 1.0), 3, "uniform"), (torch.arange(3) + 0.5) / 3)


def distance(a: Tensor, b: Tensor) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the empirical distributions."""
    places = torch.cat([a, b])
    below = [torch.searchsorted(x.sort().values, places, right=True) / len(x) for x in (a, b)]
    return (below[0] - below[1]).abs().max().item()


@pytest.mark.parametrize("boundary", [0.875, 0.9, 0.3])
def test_no_draw_leaves_its_span_by_rounding(
    boundary: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the generator gives its smallest and its largest numbers."""
    ends = torch.tensor([0.0, 2.0**-53, 1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    for distribution, shift in (("logit_normal", 12.0), ("uniform", 1.0)):
        low = draw_t_within((0.0, boundary), 3, generator(), distribution, shift)
        high = draw_t_within((boundary, 1.0), 3, generator(), distribution, shift)
        assert (low < boundary).all() and (low > 0).all()
        assert (high >= boundary).all() and (high <= 1).all()


def test_the_same_generator_draws_the_same() -> None:
    draws = [draw_t_within((0.0, 0.875), 4, generator(5), "logit_normal", 12.0) for _ in "ab"]
    assert torch.equal(*draws)
    one = {"transformer": (0.0, 1.0)}
    assert draw_span(one, generator(), "uniform") == "transformer"
