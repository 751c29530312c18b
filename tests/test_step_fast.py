"""Cheaper steps: on average the gradient of Eq. 5, from fewer forwards."""

from __future__ import annotations

import math

import pytest
import torch
from step_problems import (
    FREE,
    Recorder,
    assert_same_gradients,
    changed,
    gaussian,
    gradients,
    joint_gradients,
    problem,
    roles,
    scaled,
)
from torch import Tensor

from byg_train.config import ConfigError, merge_settings
from byg_train.core.flow import rollout
from byg_train.core.roles import EditBatch, Roles, repeated, rows
from byg_train.core.schedule import Draw, sampled_rows, time_grid
from byg_train.objectives.byg import byg_step, dream_together, staged_step
from byg_train.training.cost import step_cost

IDENTITY = torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64)
REVERSE = torch.tensor([2.0, 0.0, 2.0], dtype=torch.float64)
NONE = torch.zeros(3, dtype=torch.float64)


def shared(times: list[list[float]]) -> tuple[EditBatch, Draw]:
    """Items with several times each: rows, and a draw in which they share noise and rollout."""
    one, draw = problem([row[0] for row in times])
    number = len(times[0])
    t = torch.tensor(times, dtype=torch.float64).flatten()
    eps = draw.eps.repeat_interleave(number, 0)
    return repeated(one, number), draw._replace(eps=eps, t=t, times=number)


# ---------------------------------------------------------------- sampled terms


@pytest.mark.parametrize("w", [{}, {"routing": False}, {"reverse": False}])
@pytest.mark.parametrize("identity", [None, IDENTITY, NONE])
@pytest.mark.parametrize("reverse", [None, REVERSE, NONE])
def test_sampled_terms_stage_as_they_add(
    w: dict, identity: Tensor | None, reverse: Tensor | None
) -> None:
    batch, draw = problem(FREE[1])
    draw = draw._replace(identity=identity, prior_rev=reverse, order=2)
    G, w = roles(), changed(**w)
    staged = staged_step(G, batch, draw, w, scaled(1 / 4))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 1 / 4)
    joint = byg_step(roles(), batch, draw, w)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)


@pytest.mark.parametrize("term", ["identity", "prior_rev"])
def test_over_all_draws_the_gradient_is_that_of_all_rows(term: str) -> None:
    batch, draw = problem([0.9, 0.35, 0.6, 0.11])
    wanted = joint_gradients(batch, draw)
    each = [4.0 * torch.eye(4, dtype=torch.float64)[row] for row in range(4)]
    drawn = [joint_gradients(batch, draw._replace(**{term: weights})) for weights in each]
    mean = {name: sum(g[name] for g in drawn) / 4 for name in wanted}
    assert_same_gradients(mean, wanted)
    apart = max((g[name] - wanted[name]).norm() / wanted[name].norm() for g in drawn for name in g)
    assert apart > 1e-3  # the weights do something


def test_networks_are_asked_for_the_drawn_rows_alone() -> None:
    batch, draw = problem(FREE[1])
    G = Roles(*(Recorder(net) for net in roles()))
    staged_step(
        G, batch, draw._replace(identity=IDENTITY, prior_rev=REVERSE), changed(), scaled(1.0)
    )
    assert sorted(len(call[0]) for call in G.edit.calls) == [1, 3, 3]
    assert sorted(len(call[0]) for call in G.base.calls) == [2, 2, 3, 3]
    G = Roles(*(Recorder(net) for net in roles()))
    staged_step(G, batch, draw._replace(identity=NONE, prior_rev=NONE), changed(), scaled(1.0))
    assert [len(G.edit.calls), len(G.base.calls)] == [2, 2]


@pytest.mark.parametrize(("number", "p"), [(8, 0.25), (8, 0.5), (7, 0.3), (1, 0.25), (3, 0.9)])
def test_every_row_is_drawn_with_the_same_probability(number: int, p: float) -> None:
    g = torch.Generator().manual_seed(0)
    drawn = torch.stack([sampled_rows(number, p, g) for _ in range(4000)])
    assert set(drawn.unique().tolist()) <= {0.0, torch.tensor(1 / p).item()}
    torch.testing.assert_close(drawn.mean(0), torch.ones(number), atol=0.15, rtol=0)
    counts = (drawn > 0).sum(1)
    assert counts.min() >= int(number * p) and counts.max() <= int(number * p) + 1
    before = g.get_state()
    assert sampled_rows(number, 1.0, g) is None and torch.equal(before, g.get_state())


# ---------------------------------------------------------------- several times of a rollout


@pytest.mark.parametrize("order", [1, 2])
def test_each_time_of_a_rollout_gives_what_it_gives_alone(order: int) -> None:
    batch, draw = shared([[0.93, 0.21, 0.5], [0.04, 1.0, 0.77]])
    draw = draw._replace(order=order)
    G = Roles(*(Recorder(net) for net in roles()))
    (both,) = dream_together(G, [(batch, draw)])
    assert [len(call[0]) for call in G.ema.calls] == [2] * (len(draw.grid) - 1)
    for row in range(6):
        at = slice(row, row + 1)
        one = EditBatch(*(rows(part, at) for part in batch[:5]))
        alone = draw._replace(eps=draw.eps[at], t=draw.t[at], times=1)
        (single,) = dream_together(G, [(one, alone)])
        torch.testing.assert_close(both.y_t[at], single.y_t)
        torch.testing.assert_close(both.y_0[at], single.y_0)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_rollout_serves_several_micro_batches(at_once: int) -> None:
    """However its four times are cut, before another item's; with a neighbour that has one."""
    batch, draw = shared([[0.93, 0.21, 0.5, 0.66], [0.04, 1.0, 0.77, 0.3]])
    (whole,) = dream_together(roles(), [(batch, draw)])
    cuts = [slice(first, first + at_once) for first in range(0, 8, at_once)]
    work = [
        (EditBatch(*(p[at] for p in batch[:5])), draw._replace(eps=draw.eps[at], t=draw.t[at]))
        for at in cuts
    ]
    G = Roles(*(Recorder(net) for net in roles()))
    dreams = dream_together(G, work)
    assert [len(call[0]) for call in G.ema.calls] == [1] * 2 * (len(draw.grid) - 1)
    for at, dreamt in zip(cuts, dreams, strict=True):
        torch.testing.assert_close(dreamt.y_t, whole.y_t[at])
        torch.testing.assert_close(dreamt.y_0, whole.y_0[at])


def test_steps_with_a_shared_rollout_stage_as_they_add() -> None:
    batch, draw = shared([[0.93, 0.21], [0.04, 0.77]])
    G = roles()
    staged_step(G, batch, draw, changed(), scaled(1.0))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw))


# ---------------------------------------------------------------- the solver


def _error(n: int, order: int) -> float:
    """Of y_0 on dy/dt = 3 y cos(5 t), whose answer is known."""
    eps = gaussian(torch.Generator().manual_seed(1), 4, 3)

    def field(y: Tensor, s: Tensor) -> Tensor:
        return 3 * y * torch.cos(5 * s)[:, None]

    grid, t = time_grid(n).double(), torch.full((4,), 0.5, dtype=torch.float64)
    _, y_0 = rollout(field, eps, grid, t, order)
    wanted = eps * math.exp(-3 / 5 * math.sin(5.0))
    return ((y_0 - wanted).norm() / wanted.norm()).item()


def test_the_second_order_converges_as_such() -> None:
    assert 1.7 < _error(40, 1) / _error(80, 1) < 2.3
    assert 3.4 < _error(40, 2) / _error(80, 2) < 4.6
    assert _error(20, 2) < _error(40, 1)


@pytest.mark.parametrize("order", [1, 2])
def test_the_path_goes_through_its_own_nodes(order: int) -> None:
    eps = gaussian(torch.Generator().manual_seed(2), 1, 3)
    grid = time_grid(4, 3.0).double()
    states = []

    def field(y: Tensor, s: Tensor) -> Tensor:
        states.append(y)
        return torch.tanh(y) * s[:, None] + 0.3

    y_t, _ = rollout(field, eps, grid, grid[:-1], order)
    torch.testing.assert_close(y_t, torch.cat(states))
    near, _ = rollout(field, eps, grid, grid[1:-1] + 1e-9, order)  # the step before ends there
    torch.testing.assert_close(near, y_t[1:], atol=1e-7, rtol=0)


def test_a_field_that_is_a_line_in_time_is_followed_exactly_after_the_first_step() -> None:
    grid, eps = torch.tensor([1.0, 0.9, 0.4, 0.0]).double(), torch.zeros(1, 1).double()
    y_t, y_0 = rollout(lambda y, s: s[:, None], eps, grid, torch.tensor([0.6]).double(), order=2)
    first = -0.1 * 1.0
    assert y_t.item() == pytest.approx(first - (0.9**2 - 0.6**2) / 2)
    assert y_0.item() == pytest.approx(first - 0.9**2 / 2)


# ---------------------------------------------------------------- settings


def test_the_fast_profile_costs_half_and_yields_to_what_is_set() -> None:
    paper, fast = (merge_settings("flux_edit", profile=name) for name in (None, "fast"))
    assert step_cost(paper, 0.45).full == pytest.approx(20.8)
    assert step_cost(fast, 0.45).full <= 11
    own = merge_settings("flux_edit", profile="fast", assignments=["rollout.steps=7"])
    assert (own.rollout.steps, own.rollout.order) == (7, 2)
    with pytest.raises(ConfigError, match="unknown profile 'fsat'.*fast"):
        merge_settings("flux_edit", profile="fsat")


@pytest.mark.parametrize(("times", "rows", "whole"), [(3, 8, 24), (2, 3, 6), (16, 8, 8)])
def test_times_that_do_not_fit_the_batch_are_refused(times: int, rows: int, whole: int) -> None:
    given = {"rollout.times": times, "train.batch_size": rows, "train.global_batch": whole}
    with pytest.raises(ConfigError, match=f"rollout.times is {times}.*train.batch_size {rows}"):
        merge_settings("demo", assignments=[f"{k}={v}" for k, v in given.items()])


def test_the_weights_turn_gentle_when_it_is_asked() -> None:
    w = merge_settings("demo", assignments=["method.gentle_from=0.6"]).method
    assert w.after(0.59) is w
    assert (w.after(0.6).lambda_prior, w.after(0.6).alpha) == (w.gentle_prior, w.gentle_alpha)
    paper = merge_settings("flux_edit").method
    assert paper.after(0.999) is paper
