"""Flow maths against closed forms: straight and curved flows whose solution is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from byg_train.core.flow import integrate, noised, one_step, rollout, route_gradient

SHAPES = [(3, 4, 5, 6), (3, 2, 4, 3, 2)]  # ComfyUI's 4-D image latents, our 5-D ones


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(t: Tensor, like: Tensor) -> Tensor:
    """t (B,) spelled out to the shape of `like`, by hand."""
    return torch.stack([torch.full_like(x, float(s)) for s, x in zip(t, like, strict=True)])


class Curved(nn.Module):
    """A field that bends with state and time and mixes channels; y (B, 4, F, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv3d(5, 4, 1, dtype=torch.float64)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        clock = rows(s, y[:, :1])
        return 2 * torch.tanh(self.mix(torch.cat([y, clock], 1))) + y * clock


def walk(field: Curved, eps: Tensor, grid: Tensor) -> list[Tensor]:
    """The states at every node, one Euler step after the other."""
    nodes = [eps]
    for s, s_next in pairwise(grid.tolist()):
        v = field(nodes[-1], torch.full((len(eps),), s, dtype=eps.dtype))
        nodes.append(nodes[-1] - (s - s_next) * v)
    return nodes


def on_polyline(nodes: list[Tensor], grid: Tensor, t: Tensor) -> Tensor:
    """Every element of y at its sample's t, by numpy's interpolation between the nodes."""
    states = torch.stack(nodes).flatten(2).numpy()  # (n + 1, B, N)
    rising, count = grid.numpy()[::-1], states.shape[2]
    at = [
        [np.interp(float(t[b]), rising, states[::-1, b, k]) for k in range(count)]
        for b in range(len(t))
    ]
    return torch.tensor(np.array(at)).reshape(nodes[0].shape)


# ---------------------------------------------------------------- noising


@pytest.mark.parametrize("shape", SHAPES)
def test_one_step_undoes_noised_for_the_true_velocity(shape: tuple[int, ...]) -> None:
    x, eps, t = gaussian(*shape), gaussian(*shape, seed=1), times(1.0, 0.37, 1e-6)
    x_t = noised(x, eps, t)
    torch.testing.assert_close(x_t, x + rows(t, x) * (eps - x))
    torch.testing.assert_close(one_step(x_t, eps - x, t), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_time_runs_from_data_to_noise(shape: tuple[int, ...]) -> None:
    x, eps = gaussian(*shape), gaussian(*shape, seed=1)
    assert torch.equal(noised(x, eps, torch.zeros(3)), x)
    assert torch.equal(noised(x, eps, torch.ones(3)), eps)


def test_one_step_answers_a_velocity_with_minus_t() -> None:
    t = times(0.2, 0.9)
    y_t, v = gaussian(2, 3, 4, 4), gaussian(2, 3, 4, 4, seed=1).requires_grad_()
    g = gaussian(2, 3, 4, 4, seed=2)
    (arrived,) = torch.autograd.grad((g * one_step(y_t, v, t)).sum(), v)
    torch.testing.assert_close(arrived, -rows(t, g) * g, rtol=0, atol=1e-15)


# ---------------------------------------------------------------- rollout

inner = st.lists(st.integers(1, 999), max_size=6, unique=True)


@settings(max_examples=40)
@given(
    nodes=inner,
    free=st.lists(st.floats(1e-9, 1.0, exclude_min=True), min_size=1, max_size=3),
    shape=st.sampled_from([(4, 3), (2, 3, 2, 2)]),
)
def test_rollout_is_exact_on_a_straight_flow(
    nodes: list[int], free: list[float], shape: tuple[int, ...]
) -> None:
    grid = times(1.0, *(k / 1000 for k in sorted(nodes, reverse=True)), 0.0)
    t = torch.cat([times(*free), grid[:-1]])  # anywhere, and on every node
    x, eps = gaussian(len(t), *shape), gaussian(len(t), *shape, seed=1)

    # On the line from eps to x this is eps - x, and it also looks at state and time.
    y_t, y_0 = rollout(lambda y, s: (y - x) / rows(s, y), eps, grid, t)

    torch.testing.assert_close(y_t, noised(x, eps, t), rtol=0, atol=1e-9)
    torch.testing.assert_close(y_0, x, rtol=0, atol=1e-9)


def test_y_t_lies_on_the_rollouts_own_polyline() -> None:
    grid, t = times(1, 0.8, 0.55, 0.3, 0.1, 0), times(1, 0.9, 0.55, 0.42, 0.1, 0.05, 1e-12)
    field, eps = Curved(), gaussian(7, 4, 1, 2, 3)
    with torch.no_grad():
        nodes = walk(field, eps, grid)
        y_t, y_0 = rollout(field, eps, grid, t)
    torch.testing.assert_close(y_t, on_polyline(nodes, grid, t), rtol=0, atol=1e-13)
    assert torch.equal(y_0, nodes[-1])
    # Algorithm 1, lines 8-10: on a node it is that node's state, not a bit beside it.
    for b, node in ((0, 0), (2, 2), (4, 4)):
        assert torch.equal(y_t[b], nodes[node][b])
    torch.testing.assert_close(y_t[6], y_0[6], rtol=0, atol=1e-10)


def test_every_sample_stops_at_its_own_t() -> None:
    grid, t = times(1, 0.7, 0.4, 0), times(0.95, 0.5, 0.2)
    field, eps = Curved(), gaussian(3, 4, 1, 2, 2)
    together, _ = rollout(field, eps, grid, t)
    for b in range(3):
        alone, _ = rollout(field, eps[b : b + 1], grid, t[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-14)


def waving(y: Tensor, s: Tensor) -> Tensor:
    """dy/ds = cos(3 s) y, so that y(s) = y(1) exp((sin 3s - sin 3) / 3)."""
    return torch.cos(3 * rows(s, y)) * y


def true_wave(eps: Tensor, t: Tensor) -> Tensor:
    return eps * torch.exp((torch.sin(3 * rows(t, eps)) - math.sin(3)) / 3)


def slope(sizes: list[int], errors: list[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def test_rollout_is_of_order_one_on_a_curved_flow() -> None:
    eps, t = gaussian(2, 3, 2, 2), times(0.4, 0.73)
    sizes, at_t, at_0 = [20, 40, 80, 160, 320], [], []
    for n in sizes:
        grid = torch.linspace(1, 0, n + 1, dtype=torch.float64)
        y_t, y_0 = rollout(waving, eps, grid, t)
        at_t.append(float((y_t - true_wave(eps, t)).abs().max()))
        at_0.append(float((y_0 - true_wave(eps, torch.zeros(2))).abs().max()))
    assert slope(sizes, at_0) == pytest.approx(-1, abs=0.03)
    assert slope(sizes, at_t) == pytest.approx(-1, abs=0.1)
    assert at_0[0] / at_0[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_rollout_evaluates_once_per_step_at_the_nodes(n: int) -> None:
    seen: list[Tensor] = []

    def field(y: Tensor, s: Tensor) -> Tensor:
        seen.append(s)
        return torch.zeros_like(y)

    grid = torch.linspace(1, 0, n + 1, dtype=torch.float64)
    rollout(field, gaussian(2, 3), grid, times(0.33, 0.01))
    assert len(seen) == n
    assert torch.equal(torch.stack(seen), grid[:-1, None].expand(n, 2))


def test_y_0_is_the_multi_step_end_and_no_one_step_guess() -> None:
    grid, eps = torch.linspace(1, 0, 11, dtype=torch.float64), gaussian(2, 3, 2, 2)
    t = times(0.85, 0.6)
    y_t, y_0 = rollout(waving, eps, grid, t)
    product = math.prod(1 - 0.1 * math.cos(3 * s) for s in grid[:-1].tolist())
    torch.testing.assert_close(y_0, eps * product)
    guess = one_step(y_t, waving(y_t, t), t)
    assert (guess - y_0).abs().amax((1, 2, 3)).min() > 0.1
    _, elsewhere = rollout(waving, eps, grid, times(0.1, 1))
    assert torch.equal(y_0, elsewhere)


def test_integrate_ends_where_rollout_ends() -> None:
    grid, eps, field = times(1, 0.8, 0.35, 0), gaussian(2, 4, 1, 2, 2), Curved()
    told: list[tuple[int, int]] = []
    with torch.no_grad():
        y = integrate(field, eps, grid, lambda i, n: told.append((i, n)))
        assert torch.equal(y, rollout(field, eps, grid, times(0.5, 0.5))[1])
        assert torch.equal(y, integrate(field, eps, grid))
    assert told == [(1, 3), (2, 3), (3, 3)]


# ---------------------------------------------------------------- gradient routing


def test_route_gradient_shows_one_and_teaches_the_other() -> None:
    seen = gaussian(2, 3, 4).requires_grad_()
    learned = gaussian(2, 3, 4, seed=1).requires_grad_()
    g = gaussian(2, 3, 4, seed=2)
    hybrid = route_gradient(seen=seen, learned=learned)
    assert torch.equal(hybrid, seen)
    (g * hybrid).sum().backward()
    assert torch.equal(learned.grad, g)
    assert seen.grad is None
