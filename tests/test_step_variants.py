"""The ablation study of section 6: what each variant of the step leaves out, in both forms."""

from __future__ import annotations

import pytest
import torch
from step_problems import (
    FREE,
    ON_NODES,
    WEIGHTS,
    Recorder,
    algorithm_1,
    assert_same_gradients,
    changed,
    gradients,
    joint_gradients,
    problem,
    recorded,
    roles,
    scaled,
    times_of,
)
from torch import Tensor

from byg_train.core.flow import noised, rollout
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw
from byg_train.objectives.byg import byg_step, staged_step
from byg_train.objectives.objective import StepOutput

VARIANTS = {
    "full": {},
    "w/o routing": {"routing": False},
    "w/o cycle": {"lambda_cycle": 0.0},
    "w/o reverse pass": {"reverse": False},
    "w/o directional": {"directional": 0.0, "alpha": 1.0},
    "w/o bootstrapping": {"bootstrapping": False},
    "w/o prior": {"lambda_prior": 0.0},
    "w/o all of it": {"routing": False, "bootstrapping": False, "lambda_id": 0.0},
}


@pytest.mark.parametrize("times", FREE)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_stages_as_it_adds(name: str, times: list[float]) -> None:
    batch, draw = problem(times)
    G, w = roles(), changed(**VARIANTS[name])
    staged = staged_step(G, batch, draw, w, scaled(1 / 4))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 1 / 4)
    joint = byg_step(roles(), batch, draw, w)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)


def _asked(form: str, **switches: object) -> tuple[Roles, StepOutput, EditBatch, Draw]:
    return recorded(form, changed(**switches))


def _dreams(G: Roles, batch: EditBatch, draw: Draw) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *times_of(draw))


def _call(G: Roles, text: Tensor, not_source: Tensor | None = None) -> tuple:
    """The editor's gradient pass with a text, and a source other than the one given."""
    calls = [
        call
        for call in G.edit.calls
        if call[2] is text and call[4] and (not_source is None or call[3] is not not_source)
    ]
    assert len(calls) == 1
    return calls[0]


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_bootstrapping_the_forward_pass_starts_from_the_source(form: str) -> None:
    G, _, batch, draw = _asked(form, bootstrapping=False)
    x_t, (_, y_0) = noised(batch.x, draw.eps, draw.t), _dreams(G, batch, draw)
    assert torch.equal(_call(G, batch.c)[0], x_t)
    assert torch.equal(_call(G, batch.c_inv, batch.x)[3], y_0)  # the rollout still gives y_0
    assert all(torch.equal(state, x_t) for state, *_ in G.base.calls)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_routing_the_reverse_pass_sees_the_one_step_guess(form: str) -> None:
    G, _, batch, draw = _asked(form, routing=False)
    y_t, _ = _dreams(G, batch, draw)
    with torch.no_grad():
        v = G.edit.velocity(y_t, draw.t, batch.c, batch.x)
    y_hat = y_t - draw.t.view(-1, 1, 1, 1, 1) * v
    assert torch.equal(_call(G, batch.c)[0], y_t)
    torch.testing.assert_close(_call(G, batch.c_inv, batch.x)[3].detach(), y_hat)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_the_cycle_the_reverse_prior_stays(form: str) -> None:
    """The reverse instruction's weights learn, from the reverse prior alone."""
    G, out, batch, _ = _asked(form, lambda_cycle=0.0, lambda_id=0.0)
    assert _call(G, batch.c_inv)
    loss = WEIGHTS.lambda_prior * (out.terms["prior_fwd"] + out.terms["prior_rev"]).mean()
    torch.testing.assert_close(out.loss.detach(), loss)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_the_reverse_pass_nothing_is_undone(form: str) -> None:
    G, out, batch, draw = _asked(form, reverse=False)
    assert set(out.terms) == {"prior_fwd", "identity"}
    assert len(G.edit.calls) == 2 and len(G.base.calls) == 2
    twin = roles()
    _, terms = algorithm_1(*twin[:3], *problem(ON_NODES), WEIGHTS)
    batch, draw = problem(ON_NODES)
    out = byg_step(roles(), batch, draw, changed(reverse=False))
    wanted = WEIGHTS.lambda_prior * terms["prior_fwd"] + WEIGHTS.lambda_id * terms["identity"]
    torch.testing.assert_close(out.loss, wanted.mean())


def test_without_the_direction_the_prior_is_the_mse() -> None:
    batch, draw = problem([0.9, 0.4])
    G = Roles(*(Recorder(net) for net in roles()))
    out = byg_step(G, batch, draw, changed(directional=0.0, alpha=1.0))
    with torch.no_grad():
        y_t, _ = _dreams(G, batch, draw)
        v = G.edit.velocity(y_t, draw.t, batch.c, batch.x)
        v_tgt = G.base.velocity(y_t, draw.t, batch.p_tgt)
    torch.testing.assert_close(out.terms["prior_fwd"], (v - v_tgt).square().mean((1, 2, 3, 4)))
