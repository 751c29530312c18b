"""Merged LoRA weights on a tiny FLUX: peft's values and gradients, never those of old weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_flux import T, distance, latents, load, make_bank, randomise, text, velocity
from torch import Tensor

from byg_train.config import build_config
from byg_train.models import merged
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.training.optimizer import build_optimizer


def randomised(base: Path, dtype: str = "float32") -> tuple[FluxBackbone, LoraBank]:
    backbone = load(base, dtype=dtype)
    bank = make_bank(backbone)
    randomise(bank)
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
    monkeypatch.setattr(merged, "SMALL", 0)
    theirs = results(*randomised(tiny_base))
    assert 0 < distance(ours, theirs) < 1e-4  # other rounding, so it was another way
    # In bfloat16 as near to float32 as peft's own products are.
    assert distance(low[:1], theirs[:1]) < 1.1 * distance(
        results(*randomised(tiny_base, "bfloat16"))[:1], theirs[:1]
    )


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
