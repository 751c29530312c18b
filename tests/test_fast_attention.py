"""The faster attention is diffusers', in value and gradient; what is not on a CPU keeps theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from tiny_flux import T, distance, exact_rotary, latents, load, make_bank, randomise, text
from torch import Tensor, nn

from byg_train.models import fast_cpu
from byg_train.models.fast_cpu import use_fast_attention


def attentions(network: nn.Module) -> list[FluxAttention]:
    return [module for module in network.modules() if isinstance(module, FluxAttention)]


def results(
    base: Path, dtype: torch.dtype, *, fast: bool, checkpointing: bool = False
) -> list[Tensor]:
    """v, and the gradients for latents, source and every LoRA weight; the norms have weights."""
    name = "bfloat16" if dtype == torch.bfloat16 else "float32"
    backbone = load(base, dtype=name, gradient_checkpointing=checkpointing)
    bank = make_bank(backbone)
    randomise(bank)
    if dtype == torch.float64:
        backbone.experts.double()
    g = torch.Generator().manual_seed(3)
    for attn in attentions(backbone.experts):
        assert type(attn.processor) is not FluxAttnProcessor
        for norm in (m for m in attn.modules() if isinstance(m, nn.RMSNorm)):
            norm.weight.data.copy_(1 + 0.3 * torch.randn(norm.weight.shape, generator=g))
        if not fast:
            attn.set_processor(FluxAttnProcessor())
    wide = torch.promote_types(dtype, torch.float32)
    x, y = (latents(seed).to(wide).requires_grad_() for seed in (1, 7))
    words = {name: e.to(wide) for name, e in text(2).items()}
    v = backbone.velocity(x, T.to(wide), words, y, guidance=2.0)
    v.square().sum().backward()
    return [v.detach(), x.grad, y.grad, *(p.grad for p in bank.named_parameters().values())]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_float64_is_diffusers(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    exact_rotary(monkeypatch)
    ours = results(tiny_base, torch.float64, fast=True, checkpointing=checkpointing)
    theirs = results(tiny_base, torch.float64, fast=False)
    assert len(ours) > 20
    assert distance(ours, theirs) < 1e-12


@pytest.mark.parametrize("few", [0, fast_cpu.FEW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_less_is_rounding(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, few: int
) -> None:
    monkeypatch.setattr(fast_cpu, "FEW", few)
    ours, theirs = (results(tiny_base, dtype, fast=fast) for fast in (True, False))
    exact_rotary(monkeypatch)
    exact = results(tiny_base, torch.float64, fast=False)
    assert distance(ours, exact) < 1.5 * distance(theirs, exact)
    assert distance(ours[:1], exact[:1]) < 1.5 * distance(theirs[:1], exact[:1])


def test_elsewhere_and_with_a_mask_diffusers_computes() -> None:
    attn = FluxAttention(8, heads=2, dim_head=4, bias=True, pre_only=True)
    asked: list[tuple[object, ...]] = []
    attn.set_processor(lambda *inputs: asked.append(inputs[1:]))
    use_fast_attention(attn)
    x, rotary = torch.zeros(1, 3, 8), (torch.ones(3, 4), torch.zeros(3, 4))
    cases = [
        (x.to("meta"), None, None, rotary),
        (x, None, torch.ones(3, 3), rotary),
        (x, None, None, None),
    ]
    for case in cases:
        attn(*case)
    assert all(
        a is b
        for case, seen in zip(cases, asked, strict=True)
        for a, b in zip(case, seen, strict=True)
    )
    assert attn(x, None, None, rotary).shape == x.shape
    assert len(asked) == len(cases)
