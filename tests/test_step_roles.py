"""Who is asked what in a step, and the steps that ask the editor alone."""

from __future__ import annotations

import copy

import pytest
import torch
from step_problems import (
    GRID,
    WEIGHTS,
    Recorder,
    assert_same_gradients,
    gaussian,
    gradients,
    problem,
    recorded,
    roles,
    scaled,
    times_of,
    weights,
)
from torch import Tensor, nn

from byg_train.config.methods import SupervisedConfig
from byg_train.core.flow import noised, rollout
from byg_train.core.roles import Roles
from byg_train.objectives.byg import staged_step
from byg_train.objectives.identity import identity_step
from byg_train.objectives.supervised import supervised_step


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_only_the_editor_learns(form: str) -> None:
    G, out, _, _ = recorded(form)
    for p in [*G.ema.velocity.parameters(), *G.base.velocity.parameters()]:
        assert p.grad is None
    for name, p in G.edit.velocity.named_parameters():
        assert p.grad is not None and p.grad.norm() > 0, name
    assert not any(term.requires_grad for term in out.terms.values())
    assert {name: tuple(term.shape) for name, term in out.terms.items()} == dict.fromkeys(
        ("cycle", "prior_fwd", "prior_rev", "identity"), (2,)
    )


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_base_is_asked_without_a_source_and_with_captions_swapped(form: str) -> None:
    G, _, batch, draw = recorded(form)
    with torch.no_grad():
        y_t, _ = rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *times_of(draw))
    x_t = noised(batch.x, draw.eps, draw.t)
    assert len(G.base.calls) == 4
    for _, t, _, source, grad in G.base.calls:
        assert source is None and not grad and torch.equal(t, draw.t)
    # In the order in which prior_loss takes them: from the first caption, to the second.
    forward = [text for state, _, text, *_ in G.base.calls if torch.equal(state, y_t)]
    reverse = [text for state, _, text, *_ in G.base.calls if torch.equal(state, x_t)]
    assert [id(text) for text in forward] == [id(batch.p_src), id(batch.p_tgt)]
    assert [id(text) for text in reverse] == [id(batch.p_tgt), id(batch.p_src)]


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_editor_and_ema_are_asked_as_the_algorithm_says(form: str) -> None:
    G, _, batch, draw = recorded(form)
    assert len(G.ema.calls) == len(GRID) - 1 and len(G.edit.calls) == 3
    for _, _, text, source, grad in G.ema.calls:
        assert text is batch.c and source is batch.x and not grad
    with torch.no_grad():
        y_t, y_0 = rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *times_of(draw))
    x_t = noised(batch.x, draw.eps, draw.t)
    wanted = [(y_t, batch.c, batch.x), (x_t, batch.c_inv, y_0), (x_t, batch.c_inv, batch.x)]
    for state, text, source in wanted:
        assert any(
            torch.equal(call[0], state) and call[2] is text and torch.equal(call[3], source)
            for call in G.edit.calls
        )


def test_the_pseudo_target_carries_no_gradient_to_the_ema() -> None:
    """Even if the EMA is the editor itself (a stop-gradient copy, App. C.1)."""
    batch, draw = problem([0.9, 0.35])
    shared, apart = roles(), roles()
    shared = shared._replace(ema=shared.edit)
    apart = apart._replace(ema=copy.deepcopy(apart.edit))
    for G in (shared, apart):
        staged_step(G, batch, draw, WEIGHTS, scaled(1.0))
    assert_same_gradients(gradients(shared.edit), gradients(apart.edit))


# ---------------------------------------------------------------- identity and supervised steps


def _present(net: nn.Module) -> dict[str, Tensor]:
    found = gradients(net)
    assert all(g is not None for g in found.values())
    return found


@pytest.mark.parametrize("factor", [1.0, 256.0])
def test_identity_step_is_the_identity_loss_alone(factor: float) -> None:
    batch, draw = problem([0.9, 0.35])
    G, twin = Roles(*(Recorder(net) for net in roles())), roles()
    out = identity_step(G, batch, draw, WEIGHTS, scaled(factor))
    v = twin.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c_inv, batch.x)
    wanted = (v - (draw.eps - batch.x)).square().mean((1, 2, 3, 4))
    wanted.mean().backward()
    assert_same_gradients(gradients(G.edit.velocity), _present(twin.edit), factor)
    torch.testing.assert_close(out.terms, {"identity": wanted.detach()})
    torch.testing.assert_close(out.loss, wanted.detach().mean())
    assert torch.equal(out.t, draw.t)
    assert [len(G.edit.calls), G.ema.calls, G.base.calls] == [1, [], []]


def test_identity_step_is_the_full_step_with_one_weight() -> None:
    batch, draw = problem([0.9, 0.35])
    alone, full = roles(), roles()
    identity_step(alone, batch, draw, WEIGHTS, scaled(1.0))
    staged_step(full, batch, draw, weights(0, 0, 1), scaled(1.0))
    assert_same_gradients(gradients(full.edit), gradients(alone.edit))


def test_a_supervised_step_is_equation_1() -> None:
    """The noised true edit goes in, its velocity is asked for; no other network is."""
    batch, draw = problem([0.9, 0.35])
    y = gaussian(torch.Generator().manual_seed(5), *batch.x.shape)
    G, twin = Roles(*(Recorder(net) for net in roles())), roles()
    out = supervised_step(G, batch._replace(y=y), draw, SupervisedConfig(), scaled(256.0))
    t = draw.t.view(-1, 1, 1, 1, 1)
    v = twin.edit((1 - t) * y + t * draw.eps, draw.t, batch.c, batch.x)
    wanted = (v - (draw.eps - y)).square().mean((1, 2, 3, 4))
    wanted.mean().backward()
    assert_same_gradients(gradients(G.edit.velocity), _present(twin.edit), 256.0)
    torch.testing.assert_close(out.terms, {"edit": wanted.detach()})
    torch.testing.assert_close(out.loss, wanted.detach().mean())
    assert [len(G.edit.calls), G.ema.calls, G.base.calls] == [1, [], []]
