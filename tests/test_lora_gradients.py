"""Algorithm 1 on a tiny FLUX with LoRA: every loss reaches every tensor, staged equals joint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_flux import T, edit_batch, exact_rotary, latents, load, make_bank, make_roles, randomise
from torch import Tensor

from byg_train.config.methods import BygConfig
from byg_train.core.flow import noised
from byg_train.core.roles import Roles
from byg_train.core.schedule import Draw, time_grid
from byg_train.models.lora import LoraBank
from byg_train.objectives.byg import BYG, byg_step, staged_step
from byg_train.objectives.identity import identity_step
from byg_train.objectives.objective import Backward
from byg_train.training.gradients import term_gradients

W = BygConfig(lambda_cycle=0.7, lambda_prior=1.3, lambda_id=0.4, alpha=0.6)


def _draw(dtype: torch.dtype) -> Draw:
    return Draw(latents(9, dtype=dtype), T.to(dtype), time_grid(3).to(dtype))


def _gradients(bank: LoraBank) -> dict[str, Tensor]:
    grads = {k: p.grad.clone() for k, p in bank.named_parameters().items() if p.grad is not None}
    for p in bank.named_parameters().values():
        p.grad = None
    return grads


def _scaled(factor: float) -> Backward:
    def backward(loss: Tensor, stage: str) -> float:
        (loss * factor).backward()
        return factor

    return backward


def _alone(**weight: float) -> BygConfig:
    """One weight, and nothing beside it."""
    none = {"lambda_cycle": 0.0, "lambda_prior": 0.0, "lambda_id": 0.0, "alpha": 0.0}
    return BygConfig(**none | weight)


# The weights that leave one loss, and the stage of `staged_step` that shows it.
ALONE = {
    "identity": (_alone(lambda_id=1.0), "identity"),
    "cycle": (_alone(lambda_cycle=1.0), "reverse"),
    "cycle through y_hat": (_alone(lambda_cycle=1.0), "forward"),
    "prior_rev": (_alone(lambda_prior=1.0), "reverse"),
    "prior_fwd": (_alone(lambda_prior=1.0), "forward"),
}


def _without_reverse_prior(G: Roles, x_t: Tensor) -> Roles:
    """The base sees no difference between captions at x_t: L_prior_rev becomes a constant."""

    def base(z_t: Tensor, t: Tensor, text: dict[str, Tensor]) -> Tensor:
        return G.base(z_t, t, text) * (not torch.equal(z_t, x_t))

    return G._replace(base=base)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("term", ALONE)
def test_each_loss_alone_reaches_every_lora_tensor(tiny_base: Path, term: str, dtype: str) -> None:
    backbone = load(tiny_base, gradient_checkpointing=True, dtype=dtype)
    bank = make_bank(backbone)
    randomise(bank)
    weights, wanted = ALONE[term]
    stages: dict[str, dict[str, Tensor]] = {}

    def backward(loss: Tensor, stage: str) -> float:
        loss.backward()
        stages[stage] = _gradients(bank)
        return 1.0

    batch, draw = edit_batch(), _draw(torch.float32)
    G = make_roles(backbone, bank)
    if term == "prior_fwd":
        G = _without_reverse_prior(G, noised(batch.x, draw.eps, draw.t))
    staged_step(G, batch, draw, weights, backward)
    if term == "prior_fwd":
        assert not any(g.any() for g in stages["reverse"].values())
    names = bank.named_parameters().keys()
    assert stages[wanted].keys() == names
    assert [n for n, g in stages[wanted].items() if not g.abs().max() > 0] == []


def test_identity_step_reaches_every_lora_tensor(tiny_base: Path) -> None:
    backbone = load(tiny_base, gradient_checkpointing=True)
    bank = make_bank(backbone)
    randomise(bank)
    identity_step(make_roles(backbone, bank), edit_batch(), _draw(torch.float32), W, _scaled(1.0))
    gradients = _gradients(bank)
    assert gradients.keys() == bank.named_parameters().keys()
    assert all(g.abs().max() > 0 for g in gradients.values())


@pytest.mark.slow
@pytest.mark.parametrize("identity", [0.4, 0.0])
def test_the_check_finds_a_gradient_of_every_weighted_term(
    tiny_base: Path, identity: float
) -> None:
    """At weight 0 identity has no stage; the norms of the others stay the same."""
    backbone = load(tiny_base)
    bank = make_bank(backbone)
    randomise(bank)
    w, G = W.model_copy(update={"lambda_id": identity}), make_roles(backbone, bank)
    parameters, draw = bank.named_parameters(), _draw(torch.float32)
    norms = term_gradients(BYG, G, edit_batch(), draw, w, parameters, _scaled(0.25))
    wanted = {"cycle/reverse", "cycle/forward", "prior_rev/reverse", "prior_fwd/forward"}
    wanted |= {"identity/identity"} if identity else set()
    assert norms.keys() == wanted
    assert all(norm > 0 for norm in norms.values())
    assert all(p.grad is None for p in parameters.values())
    alone = _alone(lambda_cycle=1.0, alpha=W.alpha)
    stages: list[float] = []

    def backward(loss: Tensor, stage: str) -> float:
        loss.backward()
        stages.append(torch.stack([g.norm() for g in _gradients(bank).values()]).norm().item())
        return 1.0

    staged_step(G, edit_batch(), draw, alone, backward)
    found = [norms["cycle/reverse"], norms["cycle/forward"]]
    assert found == pytest.approx(stages, rel=1e-4)


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("decay", [0.9, None])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_staged_gradient_is_the_gradient_of_equation_5(
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    decay: float | None,
    checkpointing: bool,
) -> None:
    exact_rotary(monkeypatch)
    backbone = load(tiny_base, gradient_checkpointing=checkpointing)
    backbone.experts.double()
    bank = make_bank(backbone, decay, alpha=6.0)
    randomise(bank)
    batch, draw, G = edit_batch(torch.float64), _draw(torch.float64), make_roles(backbone, bank)
    joint = byg_step(G, batch, draw, W)
    joint.loss.backward()
    wanted = _gradients(bank)
    staged = staged_step(G, batch, draw, W, _scaled(factor))
    found = _gradients(bank)
    assert found.keys() == wanted.keys() == bank.named_parameters().keys()
    for name, gradient in wanted.items():
        assert gradient.dtype == torch.float64 and gradient.norm() > 0
        assert (found[name] / factor - gradient).norm() < 1e-10 * gradient.norm()
    torch.testing.assert_close(staged.loss, joint.loss.detach(), rtol=1e-12, atol=0)
