"""Algorithm 1 on a tiny Wan of two experts: gradients, who gets them, and who is asked when."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny_wan import (
    HIGH,
    LOW,
    TARGETS,
    base,
    edit_batch,
    in_float64,
    load,
    make_bank,
    randomise,
)
from torch import Tensor

from byg_train.config.methods import BygConfig
from byg_train.core.schedule import Draw, time_grid
from byg_train.models.lora import LoraBank
from byg_train.models.wan.backbone import WanBackbone
from byg_train.objectives.byg import byg_step, dream, dream_together, staged_step
from byg_train.objectives.identity import identity_step

WEIGHTS = BygConfig(lambda_cycle=0.7, lambda_prior=1.3, lambda_id=0.4, alpha=0.3)
TIMES = {"high": HIGH, "low": LOW}
# 1, .98, .947, .889, .75, 0: four steps of the high expert, one of the low.
GRID = time_grid(5, 12.0)


def draw(t: Tensor, seed: int = 9) -> Draw:
    """Noise for two tiny clips."""
    g = torch.Generator().manual_seed(seed)
    return Draw(torch.randn(2, 4, 2, 4, 8, generator=g, dtype=t.dtype), t, GRID.to(t.dtype))


def in_float32(loss: Tensor, stage: str) -> float:
    loss.backward()
    return 1.0


def gradients(bank: LoraBank) -> dict[str, Tensor]:
    """What has a gradient."""
    return {k: p.grad.clone() for k, p in bank.named_parameters().items() if p.grad is not None}


def randomised(decay: float | None = 0.9, **changes: object) -> tuple[WanBackbone, LoraBank]:
    backbone = load(base(), **changes)
    bank = make_bank(backbone, decay)
    randomise(bank)
    return backbone, bank


@pytest.mark.parametrize("expert", ["high", "low"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_staged_gradient_is_the_joint_one(
    expert: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: random LoRAs on both experts, B = 2, different t, four micro-batches."""
    found = {}
    for kind in ("joint", "staged"):
        backbone = load(base(), gradient_checkpointing=checkpointing)
        in_float64(backbone, monkeypatch)
        bank = make_bank(backbone)
        randomise(bank)
        G = bank.roles(backbone.velocity, backbone.velocity)
        batch, d = edit_batch(torch.float64), draw(TIMES[expert].double())

        def backward(loss: Tensor, stage: str) -> float:
            (loss / 4).backward()
            return 1 / 4

        if kind == "joint":
            backward(byg_step(G, batch, d, WEIGHTS).loss, "joint")
        else:
            staged_step(G, batch, d, WEIGHTS, backward)
        found[kind] = gradients(bank)
        monkeypatch.undo()
    assert found["joint"].keys() == found["staged"].keys() and len(found["joint"]) == 40
    for name, gradient in found["joint"].items():
        torch.testing.assert_close(found["staged"][name], gradient, rtol=1e-9, atol=1e-12)
        assert name.startswith(f"{expert}.") and gradient.abs().max() > 1e-6


@pytest.mark.parametrize("expert", ["high", "low"])
@pytest.mark.parametrize("weight", ["lambda_cycle", "lambda_prior", "lambda_id"])
def test_every_loss_reaches_every_tensor_of_its_expert_alone(weight: str, expert: str) -> None:
    backbone, bank = randomised(gradient_checkpointing=True)
    G = bank.roles(backbone.velocity, backbone.velocity)
    none = {"lambda_cycle": 0.0, "lambda_prior": 0.0, "lambda_id": 0.0}
    alone = BygConfig(**none | {weight: 1.0})
    staged_step(G, edit_batch(), draw(TIMES[expert]), alone, in_float32)
    found = gradients(bank)
    assert found.keys() == {k for k in bank.named_parameters() if k.startswith(f"{expert}.")}
    assert all(g.abs().max() > 0 for g in found.values())


@pytest.mark.parametrize("expert", ["high", "low"])
def test_the_rollout_asks_the_expert_of_each_steps_start(expert: str) -> None:
    backbone, bank = randomised()
    asked = {"edit": [], "base": []}

    def heard(role: str, x: Tensor, t: Tensor, *rest: object) -> Tensor:
        asked[role].append(backbone.expert(t))
        return backbone.velocity(x, t, *rest)

    G = bank.roles(partial(heard, "edit"), partial(heard, "base"))
    staged_step(G, edit_batch(), draw(TIMES[expert]), WEIGHTS, in_float32)
    # Identity and reverse pass, the rollout before them, the forward pass after.
    assert asked["edit"] == ["high"] * 4 + ["low"] + [expert] * 3
    assert asked["base"] == [expert] * 4
    assert backbone.swaps == {"high": 2, "low": 1}[expert]


def test_an_identity_step_needs_one_expert() -> None:
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    identity_step(G, edit_batch(), draw(LOW), WEIGHTS, in_float32)
    assert {name.split(".")[0] for name in gradients(bank)} == {"low"}
    assert backbone.swaps == 0


def test_the_ema_of_both_experts_dreams() -> None:
    """At a low t the reverse pass sees either expert's slow copy, and the live low one."""
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    state, counts = bank.state_dict()
    state = {k: v.clone() for k, v in state.items()}
    terms = {}
    for changed in ("nothing", "ema.high.", "ema.low.", "edit.high.", "edit.low."):
        other = {k: v + 0.1 if k.startswith(changed) else v for k, v in state.items()}
        bank.load_state_dict(other, counts)
        out = staged_step(G, edit_batch(), draw(LOW), WEIGHTS, in_float32)
        terms[changed] = out.terms["prior_rev"]
    same = {name for name, term in terms.items() if torch.equal(term, terms["nothing"])}
    assert same == {"nothing", "edit.high."}


# ---------------------------------------------------------------- several micro-batches


def test_dreams_in_step_are_the_dreams_alone() -> None:
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    work = [(edit_batch(seed=s), draw(t, s)) for s, t in ((0, HIGH), (10, LOW), (20, HIGH))]
    alone = [dream(G, *one) for one in work]
    assert backbone.swaps == 5  # to the low expert and back, but for the last
    together = dream_together(G, work)
    assert backbone.swaps == 7
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.y_t, b.y_t) and torch.equal(a.y_0, b.y_0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps", [["high low high low", "low low low low"] * 2, ["high high high high"] * 3]
)
def test_at_most_two_swaps_per_optimiser_step(steps: list[str]) -> None:
    """All dreams in step, then the micro-batches by rising t: the low expert is there already."""
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    backbone.drop_encoders()
    wanted = gradients_one_by_one(steps[0].split())
    for step, experts in enumerate(steps):
        work = [(edit_batch(seed=i), draw(TIMES[e], i)) for i, e in enumerate(experts.split())]
        dreams = dream_together(G, work)
        order = sorted(range(len(work)), key=lambda i: work[i][1].t.max())
        for i in order:
            staged_step(G, *work[i], WEIGHTS, in_float32, dreams[i])
        found = gradients(bank)
        if step == 0:
            for name, gradient in wanted.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
        for p in bank.named_parameters().values():
            p.grad = None
        assert backbone.swaps <= 2 * (step + 1)


def gradients_one_by_one(experts: list[str]) -> dict[str, Tensor]:
    """The same micro-batches in their own order, each with its own dream."""
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    for i, expert in enumerate(experts):
        staged_step(G, edit_batch(seed=i), draw(TIMES[expert], i), WEIGHTS, in_float32)
    return gradients(bank)


# ---------------------------------------------------------------- the LoRA of each


def test_every_projection_gets_a_lora_by_default() -> None:
    chosen, default = (make_bank(load(base()), targets=t) for t in (TARGETS, None))
    assert default.named_parameters().keys() == chosen.named_parameters().keys()
    assert len(default.named_parameters()) == 2 * 2 * 2 * 10


def test_the_idle_expert_gets_no_optimiser_and_no_ema_step() -> None:
    backbone, bank = randomised()
    G = bank.roles(backbone.velocity, backbone.velocity)
    optimizer = torch.optim.AdamW(bank.named_parameters().values(), lr=0.1, weight_decay=0.5)
    before = {k: v.clone() for k, v in bank.state_dict()[0].items()}
    staged_step(G, edit_batch(), draw(LOW), WEIGHTS, in_float32)
    optimizer.step()
    bank.update_ema(["low"])
    after, counts = bank.state_dict()
    assert counts == {"updates": {"high": 0, "low": 1}}
    assert {k.split(".")[1] for k in after if not torch.equal(after[k], before[k])} == {"low"}
    assert all(not torch.equal(after[k], before[k]) for k in after if ".low." in k)
