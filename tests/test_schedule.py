"""Times: their range, their distribution, the shift and its inverse, the published grids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byg_train.core.schedule import (
    TimeDistribution,
    along,
    draw_t,
    shifted,
    time_grid,
)
from byg_train.models.flux.record import sampling_shift

COUNT = 200_000
BOTH: list[TimeDistribution] = ["uniform", "logit_normal"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(distribution: TimeDistribution, shift: float = 1.0) -> Tensor:
    return draw_t(COUNT, seeded(), distribution, shift)


def unshifted(t: Tensor, shift: float) -> Tensor:
    """The inverse of the shift: u = t / (s - (s - 1) t)."""
    return t / (shift - (shift - 1) * t)


def kolmogorov_smirnov(probabilities: Tensor) -> float:
    """Largest gap between the sorted probabilities and a uniform distribution, times sqrt(n)."""
    p, n = probabilities.double().sort().values, len(probabilities)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return float(torch.maximum(steps[1:] - p, p - steps[:-1]).max()) * math.sqrt(n)


def normal_cdf(z: Tensor) -> Tensor:
    return torch.special.ndtr(z)


# ---------------------------------------------------------------- draws of t


@pytest.mark.parametrize("shift", [1.0, 12.0])
@pytest.mark.parametrize("distribution", BOTH)
def test_draws_lie_above_zero_and_up_to_one(distribution: TimeDistribution, shift: float) -> None:
    t = draws(distribution, shift)
    assert t.shape == (COUNT,) and t.dtype == torch.float32
    assert t.min() > 0 and t.max() <= 1


def test_uniform_can_draw_one_and_cannot_draw_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([0.0, 1 - 2**-24])  # rand() is in [0, 1): its smallest and largest value
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    assert draw_t(2, seeded(), "uniform").tolist() == [1.0, 2**-24]


def test_uniform_draws_are_uniform() -> None:
    t = draws("uniform").double()
    assert t.mean() == pytest.approx(1 / 2, abs=0.003)
    assert t.var() == pytest.approx(1 / 12, abs=0.001)
    assert kolmogorov_smirnov(t) < 1.63  # the 1 % level


@pytest.mark.parametrize("shift", [1.0, 3.0, 12.0])
def test_logit_normal_draws_are_normal_before_sigmoid_and_shift(shift: float) -> None:
    z = torch.logit(unshifted(draws("logit_normal", shift).double(), shift))
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert z.std() == pytest.approx(1, abs=0.01)
    assert kolmogorov_smirnov(normal_cdf(z)) < 1.63


def test_uniform_draws_are_shifted_too() -> None:
    assert kolmogorov_smirnov(unshifted(draws("uniform", 12.0).double(), 12.0)) < 1.63


def test_share_of_the_high_noise_expert() -> None:
    """Wan2.2's expert above 0.875 gets 70.5 % of the video draws (App. B.2)."""
    edge = float(unshifted(torch.tensor(0.875, dtype=torch.float64), 12.0))
    expected = float(1 - normal_cdf(torch.logit(torch.tensor(edge, dtype=torch.float64))))
    assert expected == pytest.approx(0.705, abs=5e-4)
    assert float((draws("logit_normal", 12.0) >= 0.875).double().mean()) == pytest.approx(
        expected, abs=0.004
    )


@pytest.mark.parametrize("distribution", BOTH)
def test_the_generator_determines_the_draws(distribution: TimeDistribution) -> None:
    g = seeded(7)
    first, second = draw_t(8, g, distribution), draw_t(8, g, distribution)
    torch.manual_seed(123)  # the global state plays no part
    assert torch.equal(first, draw_t(8, seeded(7), distribution))
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw_t(8, seeded(8), distribution))


# ---------------------------------------------------------------- shift and grids


@settings(max_examples=50)
@given(t=st.floats(0, 1), shift=st.floats(0.2, 20))
def test_shift_has_its_closed_form_and_its_inverse(t: float, shift: float) -> None:
    there = shifted(torch.tensor(t, dtype=torch.float64), shift)
    # Esser et al.: the odds of noise against data are multiplied by the shift.
    assert float(there * (1 - t)) == pytest.approx(shift * t * float(1 - there), abs=1e-12)
    assert float(shifted(there, 1 / shift)) == pytest.approx(t, abs=1e-12)


def test_shift_one_changes_nothing_and_more_pushes_to_noise() -> None:
    t = torch.linspace(0, 1, 33)
    assert torch.equal(shifted(t, 1.0), t)
    assert (shifted(t, 3.0)[1:-1] > t[1:-1]).all()
    assert (shifted(t, 3.0).diff() > 0).all()


@settings(max_examples=50)
@given(steps=st.integers(1, 50), shift=st.floats(0.2, 20))
def test_grid_falls_from_one_to_zero(steps: int, shift: float) -> None:
    grid = time_grid(steps, shift)
    assert grid.shape == (steps + 1,)
    assert grid[0] == pytest.approx(1, abs=2e-7) and grid[-1] == 0
    assert (grid.diff() < 0).all()


def test_grid_is_uniform_without_a_shift() -> None:
    torch.testing.assert_close(time_grid(10), torch.arange(10, -1, -1) / 10)


def test_grid_of_the_video_model() -> None:
    """Shift 12, 10 steps: seven nodes for the high-noise expert (>= 0.875), three below."""
    grid = time_grid(10, 12.0)
    published = [1, 0.991, 0.980, 0.966, 0.947, 0.923, 0.889, 0.837, 0.750, 0.571, 0]
    assert [round(s, 3) for s in grid.tolist()] == published
    assert int((grid[:-1] >= 0.875).sum()) == 7


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (2176, 0.825)])
def test_flux_shift_at_its_published_points(tokens: int, mu: float) -> None:
    assert math.log(sampling_shift(tokens)) == pytest.approx(mu, abs=1e-12)


def test_along_is_straight_between_its_points_and_level_beyond() -> None:
    t = torch.tensor([0.0, 0.2, 0.3, 0.5, 0.6, 1.0], dtype=torch.float64)
    found = along(t, ((0.2, 1.0), (0.4, 3.0), (0.6, 0.0)))
    wanted = torch.tensor([1.0, 1.0, 2.0, 1.5, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, wanted)
    assert along(t, ((0.7, 2.5),)).tolist() == [2.5] * len(t)
