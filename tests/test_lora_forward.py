"""Merged LoRA weights on a tiny FLUX: peft's values and gradients, never those of old weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from tiny_flux import T, distance, latents, load, make_bank, randomise, text, velocity
from torch import Tensor, nn

from byg_train.config import LoraSettings, build_config
from byg_train.models import lora_forward
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank, Role
from byg_train.training.optimizer import build_optimizer


def randomised(base: Path, dtype: str = "float32") -> tuple[FluxBackbone, LoraBank]:
    backbone = load(base, dtype=dtype)
    bank = make_bank(backbone)
    randomise(bank)
    return backbone, bank


def as_peft(backbone: FluxBackbone, bank: LoraBank) -> tuple[FluxBackbone, LoraBank]:
    """The same, with the forwards of peft's own classes."""
    for layer in backbone.experts.modules():
        if isinstance(layer, LoraLayer):
            layer.forward = partial(type(layer).forward, layer)
    return backbone, bank


def results(backbone: FluxBackbone, bank: LoraBank) -> list[Tensor]:
    """v, and the gradients for the source and every LoRA weight."""
    source = latents(7).requires_grad_()
    v = backbone.velocity(latents(1), T, text(2), source, guidance=2.0)
    v.square().sum().backward()
    return [v.detach(), source.grad, *(p.grad for p in bank.named_parameters().values())]


def test_values_and_gradients_are_those_of_peft(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = results(*randomised(tiny_base))
    low = results(*randomised(tiny_base, "bfloat16"))
    monkeypatch.setattr(lora_forward, "SMALL", 0)
    theirs = results(*as_peft(*randomised(tiny_base)))
    assert 0 < distance(ours, theirs) < 1e-4  # other rounding, so it was another way
    # In bfloat16 as near to float32 as peft's own products are.
    assert distance(low[:1], theirs[:1]) < 1.1 * distance(
        results(*as_peft(*randomised(tiny_base, "bfloat16")))[:1], theirs[:1]
    )


@pytest.mark.parametrize("role", ["edit", "ema", "base"])
def test_a_product_that_is_not_merged_adds_what_peft_adds(role: Role) -> None:
    """Values and gradients for every input and weight, at a scale that is not 1."""
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 7, bias=False)).double()
    settings = LoraSettings(rank=3, alpha=6, targets=["0", "1"])
    bank = LoraBank(nn.ModuleDict({"one": network}), settings, 0.9, seed=0)
    randomise(bank)
    lora_forward.without_merged_weights(network)
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    weights, found = [x, *bank.named_parameters().values()], []
    for _ in range(2):
        with bank.using(role):
            y = network(x)
            parts = torch.autograd.grad(y.square().sum(), weights, allow_unused=True)
            found.append([y, *(part for part in parts if part is not None)])
        for layer in network:
            layer.forward = partial(type(layer).forward, layer)
    assert len(found[0]) == len(found[1]) == (6 if role == "edit" else 2)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_weight_that_changed_is_merged_again(tiny_base: Path) -> None:
    backbone, bank = randomised(tiny_base)
    before = velocity(backbone)
    assert torch.equal(before, velocity(backbone))
    optimizer = torch.optim.AdamW(bank.named_parameters().values(), lr=0.01)
    results(backbone, bank)
    optimizer.step()
    stepped = velocity(backbone)
    assert not torch.equal(stepped, before)
    with bank.using("ema"):
        slow = velocity(backbone)
    bank.update_ema(bank.experts)
    with bank.using("ema"):
        assert not torch.equal(velocity(backbone), slow)
    bank.copy_to_ema()
    with bank.using("ema"):
        assert torch.equal(velocity(backbone), stepped)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_the_steps_of_a_run_reach_the_merged_weights(name: str, tiny_base: Path) -> None:
    """Fused optimisers write past autograd, which would not know of it."""
    if name == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    backbone, bank = randomised(tiny_base)
    config = build_config({"optimizer": {"name": name, "lr": 0.01}})
    optimizer = build_optimizer(config, list(bank.named_parameters().values()))
    before = velocity(backbone)
    results(backbone, bank)
    optimizer.step()
    fresh = load(tiny_base)
    twin = make_bank(fresh)
    twin.load_state_dict(*bank.state_dict())
    assert not torch.equal(velocity(backbone), before)
    assert torch.equal(velocity(backbone), velocity(fresh))


def test_every_adapter_has_its_own(tiny_base: Path) -> None:
    backbone, bank = randomised(tiny_base)
    first = velocity(backbone)
    with bank.using("ema"):
        assert not torch.allclose(velocity(backbone), first, atol=1e-3)
    with bank.using("base"):
        assert torch.equal(velocity(backbone), velocity(load(tiny_base)))
    assert torch.equal(velocity(backbone), first)
