"""The real trainer on a tiny Wan of two experts: gradients, who idles, the warm-up, the EMA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import metrics
from tiny_wan import BOUNDARY, in_float64
from torch import Tensor
from wan_run import NO_WARMUP, randomise, run, settings, trainer

from byg_train.config import merged, parse_set
from byg_train.core.roles import EditBatch
from byg_train.models.lora_file import read_lora
from byg_train.objectives.byg import BYG, byg_step
from byg_train.training.checkpoint import load_checkpoint
from byg_train.training.origin import warmup_files
from byg_train.training.trainer import Trainer

# ---------------------------------------------------------------- gradients


def test_staged_gradients_of_mixed_experts_are_the_joint_gradient_of_eq_5(
    wan_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation 4, B = 2, random A and B, float64; the trainer's own draws and order."""
    over = {
        "method": {"lambda_cycle": 0.7, "lambda_prior": 1.3, "lambda_id": 0.4, "alpha": 0.6},
        "train": {"batch_size": 2, "global_batch": 8},
        "seed": 1,
    }
    t = trainer(settings(wan_clips, over), tmp_path / "run")
    in_float64(t.backbone, monkeypatch)
    randomise(t)

    def double(part: Tensor | dict) -> Tensor | dict:
        if isinstance(part, dict):
            return {k: v.double() for k, v in part.items()}
        return part.double()

    t.batches = [EditBatch(*map(double, t.batches[k][:5])) for k in range(8)]
    work = t._micro_batches(t.spans)
    sizes = [(one.expert, len(one.batch.x)) for one in work]
    assert sizes == [("high", 2), ("high", 2), ("high", 2), ("high", 1), ("low", 1)]
    outputs = t._taken(t.objective, work)
    parameters = t.bank.named_parameters()
    staged = {name: p.grad.clone() for name, p in parameters.items()}
    t.optimizer.zero_grad()
    for one, output in zip(work, outputs, strict=True):
        joint = byg_step(t.roles, one.batch, one.draw, t.config.method)
        torch.testing.assert_close(output.loss, joint.loss.detach(), rtol=1e-12, atol=0)
        (joint.loss * len(one.batch.x) / 8).backward()
    assert len(parameters) == 2 * 40
    for name, p in parameters.items():
        assert p.grad.norm() > 0, name
        assert (staged[name] - p.grad).norm() <= 1e-10 * p.grad.norm(), name


def test_draws_lie_within_their_experts_span(wan_clips: Path, tmp_path: Path) -> None:
    t = trainer(settings(wan_clips, {"train": {"batch_size": 2}}), tmp_path / "run")
    found = {"high": [], "low": []}
    for t.state.step in range(20):
        for one in t._micro_batches(t.spans):
            found[one.expert].append(one.draw.t)
    high, low = torch.cat(found["high"]), torch.cat(found["low"])
    assert high.min() >= BOUNDARY > low.max() and low.min() > 0
    assert 0.5 < len(high) / 80 < 0.9  # 0.705 of all draws at shift 12


# ---------------------------------------------------------------- the idle expert


def snapshot(t: Trainer) -> dict[str, Tensor]:
    """Weights, EMA and optimiser state, by "what.expert.name"."""
    state = {k: v.clone() for k, v in t.bank.state_dict()[0].items()}
    for name, p in t.bank.named_parameters().items():
        for key, value in t.optimizer.state.get(p, {}).items():
            state[f"{key}.{name}"] = value.clone()
    return state


@pytest.mark.slow
def test_the_idle_expert_is_left_alone_bitwise(wan_clips: Path, tmp_path: Path) -> None:
    """Though it has momentum from steps before, and weights that decay."""
    over = {
        **NO_WARMUP,
        "method": {"identity_probability": 0.3},
        "optimizer": {"lr": 1e-2, "weight_decay": 0.5},
        "train": {"global_batch": 1},
    }
    t = trainer(settings(wan_clips, over), tmp_path / "run")
    randomise(t)
    rested = []
    for _ in range(12):
        before, counts = snapshot(t), dict(t.bank.updates)
        taken = next(iter(record_of(t)))
        idle = {"high": "low", "low": "high"}[taken]
        after = snapshot(t)
        changed = {
            k.split(".")[1] for k in after if not torch.equal(after[k], before.get(k, -after[k]))
        }
        assert changed == {taken}
        assert {k.split(".")[0] for k in after if f".{taken}." in k} >= {"edit", "ema", "exp_avg"}
        assert t.bank.updates == {taken: counts[taken] + 1, idle: counts[idle]}
        if any(k.startswith(f"exp_avg.{idle}.") for k in before):
            rested.append(idle)
    assert {*rested} == {"high", "low"}


def record_of(t: Trainer) -> set[str]:
    """Take a step; the experts that its record speaks of."""
    return {key.split("/")[1] for key in t.optimizer_step() if "/" in key}


@pytest.mark.slow
def test_the_experts_change_places_at_most_twice_per_step(wan_clips: Path, tmp_path: Path) -> None:
    over = {"method": {"identity_probability": 0.4}, "warmup": {"min_steps": 3, "max_steps": 3}}
    t = trainer(settings(wan_clips, over), tmp_path / "run")
    assert (t.backbone.on_device, t.backbone.swaps) == (None, 0)
    t.state.checked = 10**6  # no checks of gradients between the steps
    mixed = 0
    for step in range(12):
        warming_up = t.state.warming_up and step < 3
        mixed += len(record_of(t)) == 2
        # An identity step begins with the expert that is there, so one swap is enough.
        assert t.backbone.swaps <= (step + 1 if warming_up else 2 * (step + 1))
    assert mixed > 6


@pytest.mark.parametrize("expert", ["both", "low"])
def test_the_rollout_crosses_both_experts(expert: str, wan_clips: Path, tmp_path: Path) -> None:
    """Of a micro-batch at low noise, too, and where the high expert has no LoRA."""
    t = trainer(settings(wan_clips, {**NO_WARMUP, "train": {"expert": expert}}), tmp_path / "run")
    asked, ema = [], t.roles.ema

    def heard(x: Tensor, time: Tensor, *rest: object) -> Tensor:
        asked.append(t.backbone.expert(time))
        return ema(x, time, *rest)

    t.roles = t.roles._replace(ema=heard)
    spans = {"low": t.spans["low"]}
    t._taken(t.objective, t._micro_batches(spans)[:2])
    assert asked == ["high"] * 2 * 4 + ["low"] * 2
    trained = {
        name.split(".")[0] for name, p in t.bank.named_parameters().items() if p.grad is not None
    }
    assert trained == {"low"}


@pytest.mark.slow
def test_every_experts_gradients_are_watched(
    wan_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = trainer(settings(wan_clips), tmp_path / "run")
    before = t._micro_batches(t.spans)[0].draw
    t._check_gradients()
    after = t._micro_batches(t.spans)[0].draw
    assert torch.equal(before.eps, after.eps) and torch.equal(before.t, after.t)
    found = metrics(tmp_path / "run")[-1]
    terms = {
        f"{term.name}/{stage}/{e}" for term in BYG.terms for stage in term.stages for e in t.spans
    }
    assert terms < found.keys() and all(found[term] > 0 for term in terms)
    living = t.roles.edit

    def cut(x: Tensor, time: Tensor, text: dict, source: Tensor) -> Tensor:
        """The high expert's LoRA gets nothing where the source gets its gradient."""
        if source.requires_grad and t.backbone.expert(time) == "high":
            with t.bank.using("base"):
                return living(x, time, text, source)
        return living(x, time, text, source)

    t.roles = t.roles._replace(edit=cut)
    t._check_gradients()
    assert "no gradient from cycle/reverse/high reaches the LoRA at step 0" in caplog.text
    assert "/low" not in caplog.text


# ---------------------------------------------------------------- warm-up


def test_the_warm_up_goes_on_for_the_expert_that_needs_it(wan_clips: Path, tmp_path: Path) -> None:
    over = {"warmup": {"min_steps": 1, "until": 1.0, "max_steps": 9}}
    t = trainer(settings(wan_clips, over), tmp_path / "run")
    t.optimizer_step()
    assert t.state.identity.keys() <= {"high", "low"}
    t.state.identity = {"high": 0.5, "low": 1e9}
    high = {k: v for k, v in snapshot(t).items() if ".high." in k}
    assert record_of(t) == {"low"} and t.state.warming_up
    assert all(torch.equal(v, snapshot(t)[k]) for k, v in high.items())
    assert t.state.identity["high"] == 0.5
    t.state.identity["low"] = 0.9
    t.optimizer_step()
    assert t.state.warmup == 2


def test_a_warm_up_is_measured_at_each_experts_times(wan_clips: Path, tmp_path: Path) -> None:
    over = {"warmup": {"min_steps": 0, "until": 1e-9, "max_steps": 3}}
    t = trainer(settings(wan_clips, over), tmp_path / "run")
    high, low = (t.validator.t[e] for e in ("high", "low"))
    assert (high >= BOUNDARY).all() and (low < BOUNDARY).all() and (low > 0.5).all()
    assert t.still_warming_up().keys() == {"high", "low"}
    measured = {e: t.validator.identity(e) for e in ("high", "low")}
    assert t.state.identity == measured and measured["high"] != measured["low"]


@pytest.mark.slow
def test_a_run_starts_from_the_warm_up_of_another(wan_clips: Path, tmp_path: Path) -> None:
    """Whichever of its files, or their common name, is given; one expert takes its own."""
    run(settings(wan_clips, {"train": {"steps": 1}}), tmp_path / "first")
    folder = tmp_path / "first" / "checkpoints"
    files = {e: folder / f"warmup_{e}_noise.safetensors" for e in ("high", "low")}
    for name in ("warmup", "warmup_high_noise", "warmup_low_noise"):
        over = {"warmup": {"lora": str(folder / f"{name}.safetensors")}}
        config = settings(wan_clips, over)
        assert warmup_files(config, ["high", "low"]) == files
    for expert, experts in (("both", ["high", "low"]), ("low", ["low"])):
        t = trainer(settings(wan_clips, {**over, "train": {"expert": expert}}), tmp_path / expert)
        assert t.bank.experts == experts
        for e in experts:
            stored = read_lora(files[e]).by_diffusers_names()
            for role in ("edit", "ema"):
                weights = t.bank.tensors(e, role)
                assert all(torch.equal(weights[k], stored[k].float()) for k in stored)
            assert any(v.abs().max() > 0 for k, v in stored.items() if "lora_B" in k)


def test_the_shipped_warm_up_is_the_familys_own(wan_clips: Path) -> None:
    files = warmup_files(settings(wan_clips, {"warmup": {"lora": "world"}}), ["high", "low"])
    assert [f"world/{file.name}" for file in files.values()] == [
        "world/warmup_wan_high_noise.safetensors", "world/warmup_wan_low_noise.safetensors",
    ]  # fmt: skip


# ---------------------------------------------------------------- Appendix C.1


@pytest.mark.slow
def test_the_ema_is_one_setting(wan_clips: Path, tmp_path: Path) -> None:
    """Targets are dreamt by a stop-gradient copy of the live weights, or by their slow copy."""
    dreams, saved = {}, {}
    for value in ("null", "0.99"):
        over = merged(NO_WARMUP, parse_set(f"method.ema_decay={value}"))
        t = trainer(settings(wan_clips, over), tmp_path / value)
        randomise(t)
        for _ in range(2):
            t.optimizer_step()
        x, time = t.batches[0].x, torch.tensor([0.9])
        with torch.no_grad():
            live = t.roles.edit(x, time, t.batches[0].c, x)
        slow = t.roles.ema(x, time, t.batches[0].c, x)
        dreams[value] = torch.equal(live, slow)
        assert not slow.requires_grad
        saved[value] = {k.split(".")[0] for k in load_checkpoint(t.save())["lora"]}
    assert dreams == {"null": True, "0.99": False}
    assert saved == {"null": {"edit"}, "0.99": {"edit", "ema"}}
