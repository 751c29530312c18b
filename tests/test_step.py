"""Algorithm 1 against its line by line transcription, and the staged form against the joint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from step_problems import (
    FREE,
    ON_NODES,
    WEIGHTS,
    Net,
    Recorder,
    algorithm_1,
    assert_same_gradients,
    changed,
    gradients,
    joint_gradients,
    problem,
    roles,
    scaled,
    times_of,
    weights,
)
from torch import Tensor

from byg_train.config.methods import BygConfig
from byg_train.core.flow import noised, rollout
from byg_train.core.losses import velocity_mse
from byg_train.core.roles import Roles
from byg_train.objectives.byg import BYG, byg_step, staged_step
from byg_train.training.peak import peak_saved_bytes


def test_byg_step_is_algorithm_1() -> None:
    batch, draw = problem(ON_NODES)
    G, twin = roles(), roles()
    loss, terms = algorithm_1(*twin[:3], batch, draw, WEIGHTS)
    out = byg_step(G, batch, draw, WEIGHTS)
    torch.testing.assert_close(out.loss, loss)
    for name, term in terms.items():
        torch.testing.assert_close(out.terms[name], term.detach())
    assert torch.equal(out.t, draw.t)
    loss.backward()
    out.loss.backward()
    assert_same_gradients(gradients(G.edit), gradients(twin.edit), rel=1e-12)


def test_the_prior_is_weighed_by_the_noise_level() -> None:
    """Halfway between two points the factor is halfway; cycle and identity have none."""
    batch, draw = problem([0.9, 0.35])
    plain = byg_step(roles(), batch, draw, WEIGHTS)
    for form in (byg_step, lambda *of: staged_step(*of, scaled(1.0))):
        out = form(roles(), batch, draw, changed(prior_by_t=((0.2, 1.0), (0.5, 3.0))))
        factor = torch.tensor([3.0, 2.0], dtype=torch.float64)
        for name, term in plain.terms.items():
            by = factor if name.startswith("prior") else 1
            torch.testing.assert_close(out.terms[name], by * term)


# ---------------------------------------------------------------- staged = joint


@pytest.mark.parametrize("factor", [1.0, 1 / 4, 1024.0, 1024 / 4])
@pytest.mark.parametrize("times", FREE)
def test_staged_gradients_equal_the_joint_ones(times: list[float], factor: float) -> None:
    """Whatever `backward` scales by: nothing, accumulation over 4, a loss scaler, both."""
    batch, draw = problem(times)
    G = roles()
    staged = staged_step(G, batch, draw, WEIGHTS, scaled(factor))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw), factor)
    joint = byg_step(roles(), batch, draw, WEIGHTS)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)
    assert torch.equal(staged.t, draw.t)


def test_accumulated_micro_batches_give_the_mean_of_the_joint_gradients() -> None:
    times = [0.9, 0.35], [0.15, 0.6], [1.0, 0.5]
    parts = [problem(t, seed) for seed, t in enumerate(times)]
    G = roles()
    for batch, draw in parts:
        staged_step(G, batch, draw, WEIGHTS, scaled(1 / len(parts)))
    wanted = [joint_gradients(batch, draw) for batch, draw in parts]
    mean = {name: sum(g[name] for g in wanted) / len(parts) for name in wanted[0]}
    assert_same_gradients(gradients(G.edit), mean)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_the_cycle_reaches_the_forward_edit(form: str) -> None:
    """With text only in the forward call, the text's weights learn from what y_hat routes."""
    batch, draw = problem([0.9, 0.4])
    batch, w = batch._replace(c_inv=torch.zeros_like(batch.c_inv)), weights(1.3, 0.0, 0.0)
    G = roles()
    if form == "joint":
        byg_step(G, batch, draw, w).loss.backward()
    else:
        staged_step(G, batch, draw, w, scaled(1.0))
    arrived = G.edit.text.weight.grad

    # d L_cycle / d y_hyb, sent by hand through y_hat = y_t - t v_fwd.
    twin = roles()
    with torch.no_grad():
        y_t, y_0 = rollout(lambda y, s: twin.ema(y, s, batch.c, batch.x), *times_of(draw))
    y_hyb, u = y_0.requires_grad_(), draw.eps - batch.x
    v_rev = twin.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c_inv, y_hyb)
    (g,) = torch.autograd.grad(1.3 * velocity_mse(v_rev, u).mean(), y_hyb)
    v_fwd = twin.edit(y_t, draw.t, batch.c, batch.x)
    g = -draw.t.view(-1, 1, 1, 1, 1) * g
    (wanted,) = torch.autograd.grad(v_fwd, twin.edit.text.weight, g)
    assert wanted.norm() > 1e-4
    torch.testing.assert_close(arrived, wanted)


@pytest.mark.parametrize(
    "w",
    [
        weights(0.0, 0.7, 0.4, 0.3),
        weights(1.3, 0.0, 0.4, 0.3),
        weights(1.3, 0.7, 0.0, 0.3),
        weights(1.3, 0.7, 0.4, 0.0),
        weights(0.0, 0.0, 0.4, 0.3),
    ],
)
def test_zero_weights_stage_as_they_add(w: BygConfig) -> None:
    batch, draw = problem([0.9, 0.35])
    G = roles()
    staged_step(G, batch, draw, w, scaled(0.25))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 0.25)


@pytest.mark.parametrize("weight", sorted({term.weight for term in BYG.terms}))
def test_each_weight_alone_stages_as_it_adds(weight: str) -> None:
    """A term that is declared is in both forms, and its gradient is the same."""
    batch, draw = problem([0.9, 0.35])
    w = changed(**{term.weight: 0.0 for term in BYG.terms} | {weight: 0.8})
    G = roles()
    out = staged_step(G, batch, draw, w, scaled(0.25))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 0.25)
    assert {term.name for term in BYG.terms if term.weight == weight} <= out.terms.keys()
    torch.testing.assert_close(out.terms, byg_step(roles(), batch, draw, w).terms)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_identity_at_weight_zero_is_not_asked(form: str) -> None:
    """No forward and no backward; the other terms and the gradient are Algorithm 1's."""
    batch, draw = problem(ON_NODES)
    w, twin = changed(lambda_id=0.0), roles()
    G = roles()
    G = G._replace(edit=Recorder(G.edit))
    stages: list[str] = []

    def backward(loss: Tensor, stage: str) -> float:
        stages.append(stage)
        return scaled(1.0)(loss, stage)

    if form == "joint":
        out = byg_step(G, batch, draw, w)
        backward(out.loss, "joint")
    else:
        out = staged_step(G, batch, draw, w, backward)
    assert len(G.edit.calls) == 2
    assert stages == {"joint": ["joint"], "staged": ["reverse", "forward"]}[form]
    assert set(out.terms) == {"cycle", "prior_fwd", "prior_rev"}
    loss, terms = algorithm_1(*twin[:3], batch, draw, w)
    loss.backward()
    torch.testing.assert_close(out.loss, loss)
    for name, term in out.terms.items():
        torch.testing.assert_close(term, terms[name].detach())
    assert_same_gradients(gradients(G.edit.velocity), gradients(twin.edit))


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_all_weights_zero_leave_a_zero_gradient(form: str) -> None:
    batch, draw = problem([0.9, 0.35])
    G, w = roles(), weights(0.0, 0.0, 0.0, 0.3)
    if form == "joint":
        byg_step(G, batch, draw, w).loss.backward()
    else:
        staged_step(G, batch, draw, w, scaled(1024.0))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(G.edit).values())


# ---------------------------------------------------------------- memory


def test_staged_step_keeps_one_graph_alive() -> None:
    """Bytes saved for backward: staged near one supervised step, joint near three."""
    batch, draw = problem([0.9, 0.35], side=6)
    wide = [Net(seed, hidden=32, depth=6) for seed in range(3)]
    G = Roles(*wide)
    weights = list(wide[0].parameters())
    u = draw.eps - batch.x

    def peak(work: Callable[[], None]) -> int:
        return peak_saved_bytes(work, weights)

    def supervised() -> None:
        v = G.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c, batch.x)
        velocity_mse(v, u).mean().backward()

    one = peak(supervised)
    staged = peak(lambda: staged_step(G, batch, draw, WEIGHTS, scaled(1.0)) and None)
    joint = peak(lambda: byg_step(G, batch, draw, WEIGHTS).loss.backward())
    assert one <= staged <= 1.1 * one
    assert 2.5 * one <= joint <= 3.5 * one
