"""The LoRA bank on a tiny FLUX: what is adapted, roles, compiled roles, EMA, state."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_flux import T, latents, load, make_bank, make_roles, randomise, text, velocity
from torch import Tensor

from byg_train.config import ConfigError, LoraSettings
from byg_train.models.lora import LoraBank

# ---------------------------------------------------------------- what is adapted, and its start


def test_targets_are_every_projection_by_full_name(tiny_base: Path) -> None:
    names = list(make_bank(load(tiny_base)).tensors("transformer", "edit"))
    double = [f"attn.{p}" for p in ("to_q", "to_k", "to_v", "to_out.0", "to_add_out")]
    double += [f"attn.add_{p}_proj" for p in "qkv"]
    double += [f"{ff}.net.{n}" for ff in ("ff", "ff_context") for n in ("0.proj", "2")]
    single = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out"]
    wanted = [f"transformer_blocks.0.{n}" for n in double]
    wanted += [f"single_transformer_blocks.{i}.{n}" for i in range(2) for n in single]
    assert sorted(names) == sorted(f"{n}.lora_{x}.weight" for n in wanted for x in "AB")


def test_chosen_targets(tiny_base: Path) -> None:
    bank = make_bank(load(tiny_base), targets=["to_q", "single_transformer_blocks.1.proj_out"])
    modules = {name.rsplit(".lora_", 1)[0] for name in bank.tensors("transformer", "edit")}
    assert modules == {
        "transformer_blocks.0.attn.to_q",
        "single_transformer_blocks.0.attn.to_q",
        "single_transformer_blocks.1.attn.to_q",
        "single_transformer_blocks.1.proj_out",
    }
    with pytest.raises(ConfigError, match=r"'o_q'.*did you mean 'to_q'"):
        make_bank(load(tiny_base), targets=["o_q"])


def test_start_is_the_base_and_depends_on_the_seed_alone(tiny_base: Path) -> None:
    untouched, before = velocity(load(tiny_base)), torch.get_rng_state()
    backbone = load(tiny_base, dtype="bfloat16")
    banks = [make_bank(load(tiny_base)), make_bank(backbone)]
    assert torch.equal(before, torch.get_rng_state())
    first, second = (bank.named_parameters() for bank in banks)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert weight.dtype == torch.float32 == second[name].dtype
        assert torch.equal(weight, second[name])
        bound = weight.shape[1] ** -0.5  # kaiming, a = sqrt(5)
        assert weight.abs().max() <= (bound if "lora_A" in name else 0)
        assert weight.abs().max() > 0.8 * bound or "lora_B" in name
    fresh = load(tiny_base)
    make_bank(fresh)
    assert torch.equal(velocity(fresh), untouched)
    other = LoraBank(load(tiny_base).experts, LoraSettings(rank=4), 0.9, seed=1)
    assert not torch.equal(*(next(iter(b.named_parameters().values())) for b in (banks[0], other)))


def test_only_the_edit_adapter_trains(tiny_base: Path) -> None:
    backbone = load(tiny_base)
    bank = make_bank(backbone)

    def trainable() -> dict[str, bool]:
        return {name: p.requires_grad for name, p in backbone.experts.named_parameters()}

    before = trainable()
    assert sum(before.values()) == len(bank.named_parameters()) == 44
    assert all(p.requires_grad for p in bank.named_parameters().values())
    for role in ("ema", "base", "edit"):
        with bank.using(role):
            assert trainable() == before
        assert trainable() == before
    assert not any(module.training for module in backbone.experts["transformer"].modules())


# ---------------------------------------------------------------- roles


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_base_is_the_untouched_model_bitwise(tiny_base: Path, dtype: str) -> None:
    untouched = velocity(load(tiny_base, dtype=dtype))
    backbone = load(tiny_base, dtype=dtype)
    bank = make_bank(backbone)
    randomise(bank)
    with bank.using("base"):
        assert torch.equal(velocity(backbone), untouched)
    assert (velocity(backbone) - untouched).abs().max() > 1e-2


def test_ema_is_a_separately_loaded_model(tiny_base: Path) -> None:
    backbone, other = load(tiny_base), load(tiny_base)
    bank, alone = make_bank(backbone), make_bank(other, None)
    randomise(bank)
    alone.load_tensors("transformer", bank.tensors("transformer", "ema"))
    with bank.using("ema"):
        assert torch.equal(velocity(backbone), velocity(other))
    assert not torch.allclose(velocity(backbone), velocity(other), atol=1e-3)


def test_roles_run_as_named_and_leave_edit_active(tiny_base: Path) -> None:
    backbone = load(tiny_base)
    bank = make_bank(backbone)
    randomise(bank)
    G, x, e, y = make_roles(backbone, bank), latents(1), text(2), latents(7)
    expected = {}
    for role, guidance in (("edit", 1.0), ("ema", 1.0), ("base", 2.0)):
        with bank.using(role), torch.no_grad():
            expected[role] = backbone.velocity(x, T, e, y, guidance=guidance)
    for role in expected:
        out = getattr(G, role)(x, T, e, y)
        assert torch.equal(out, expected[role])
        assert out.requires_grad == (role == "edit")
    assert torch.equal(G.edit(x, T, e, y), expected["edit"])


@pytest.mark.parametrize("role", ["ema", "base"])
def test_an_exception_leaves_edit_active(tiny_base: Path, role: str) -> None:
    backbone = load(tiny_base)
    bank = make_bank(backbone)
    randomise(bank)
    before = velocity(backbone)
    with pytest.raises(KeyError), bank.using(role):
        assert not torch.equal(velocity(backbone), before)
        raise KeyError
    assert torch.equal(velocity(backbone), before)
    with pytest.raises(ValueError, match="FLUX takes images"):
        getattr(make_roles(backbone, bank), role)(latents(1)[0], T, text(2))
    assert torch.equal(velocity(backbone), before)


def test_without_a_decay_ema_is_edit(tiny_base: Path) -> None:
    backbone = load(tiny_base)
    bank = make_bank(backbone, None)
    randomise(bank)
    G, args = make_roles(backbone, bank), (latents(1), T, text(2), latents(7))
    assert torch.equal(G.ema(*args), G.edit(*args))
    assert not G.ema(*args).requires_grad
    state, _ = bank.state_dict()
    bank.update_ema(["transformer"])
    assert all(name.startswith("edit.") for name in state)
    assert not any("ema" in name for name, _ in backbone.experts.named_parameters())


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
)
def test_compiled_roles(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A kernel that torch kept from a process with another number of threads crashes this one.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = load(tiny_base, compile=True), load(tiny_base, compile=True)
    bank = make_bank(compiled)
    randomise(bank)
    eager = load(tiny_base)
    wanted = make_bank(eager)
    randomise(wanted)
    untouched = velocity(plain)
    for role in ("edit", "base", "ema", "edit"):  # back and forth: no stale graph
        with bank.using(role), wanted.using(role):
            v, w = velocity(compiled), velocity(eager)
        assert (v - w).abs().max() < 1e-5 * w.abs().max()
        distance = (v - untouched).abs().max() / untouched.abs().max()
        assert distance < 1e-5 if role == "base" else distance > 1e-2


# ---------------------------------------------------------------- EMA


def test_ema_contracts_as_its_ramp_says(tiny_base: Path) -> None:
    bank = make_bank(load(tiny_base), 0.5)
    randomise(bank)
    edit = {k: v.clone() for k, v in bank.tensors("transformer", "edit").items()}
    ema = {k: v.double() for k, v in bank.tensors("transformer", "ema").items()}
    for k in range(12):
        decay = min(0.5, (1 + k) / (10 + k))
        ema = {n: decay * e + (1 - decay) * edit[n] for n, e in ema.items()}
        bank.update_ema(["transformer"])
    for name, e in bank.tensors("transformer", "ema").items():
        assert e.dtype == torch.float32
        torch.testing.assert_close(e.double(), ema[name], rtol=1e-5, atol=1e-8)
        assert torch.equal(bank.tensors("transformer", "edit")[name], edit[name])
    assert bank.updates == {"transformer": 12}


def test_hard_copy_is_exact_and_restarts_the_ramp(tiny_base: Path) -> None:
    bank = make_bank(load(tiny_base, dtype="bfloat16"), 0.999)
    randomise(bank)
    bank.update_ema(["transformer"])
    bank.copy_to_ema()
    edit, ema = (bank.tensors("transformer", w) for w in ("edit", "ema"))
    assert all(torch.equal(edit[k], ema[k]) for k in edit)
    assert bank.updates == {"transformer": 0}
    with torch.no_grad():
        for weight in bank.named_parameters().values():
            weight += 1  # an own tensor each: the copy must not follow
    assert all(torch.allclose(edit[k], ema[k] + 1) for k in edit)
    bank.update_ema(["transformer"])
    assert all(torch.allclose(edit[k] - ema[k], torch.tensor(0.1), atol=1e-6) for k in edit)


# ---------------------------------------------------------------- in and out


def test_state_is_exact(tiny_base: Path) -> None:
    first, second = make_bank(load(tiny_base)), make_bank(load(tiny_base))
    randomise(first)
    first.update_ema(["transformer"])
    tensors, counts = first.state_dict()
    second.load_state_dict(copy.deepcopy(tensors), json.loads(json.dumps(counts)))
    again, counts = second.state_dict()
    assert tensors.keys() == again.keys() and counts == {"updates": {"transformer": 1}}
    assert all(torch.equal(tensors[k], again[k]) for k in tensors)


def test_loading_what_does_not_fit_changes_nothing(tiny_base: Path) -> None:
    bank = make_bank(load(tiny_base))
    randomise(bank)
    before = copy.deepcopy(bank.state_dict()[0])
    good = {k: torch.zeros_like(v) for k, v in bank.tensors("transformer", "edit").items()}
    name = "transformer_blocks.0.attn.to_q.lora_A.weight"
    changes: list[tuple[str, dict[str, Tensor]]] = [
        ("1 missing .*to_q.lora_A", {k: v for k, v in good.items() if k != name}),
        ("1 unexpected .*norm_out", {**good, "norm_out.linear.lora_A.weight": torch.zeros(4, 32)}),
        (r"1 of another shape .*\(8, 32\), wanted \(4, 32\)", {**good, name: torch.zeros(8, 32)}),
    ]
    for message, tensors in changes:
        with pytest.raises(ConfigError, match=message):
            bank.load_tensors("transformer", tensors)
    assert all(torch.equal(v, before[k]) for k, v in bank.state_dict()[0].items())
    bank.load_tensors("transformer", good)
    assert all(not v.any() for v in bank.state_dict()[0].values())
