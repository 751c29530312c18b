"""The faster GELU is the same function, in value and gradient, and sits where networks have one."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_flux import load
from torch import nn
from torch.nn.functional import gelu

from byg_train.models.fast_cpu import tanh_gelu


def test_values_and_gradients_are_the_functions() -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 1e4, 0.0, 1e-20])])
    weight = torch.randn(len(x), generator=torch.Generator().manual_seed(0))
    ours, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    y, wanted = tanh_gelu(ours), gelu(exact, approximate="tanh")
    (y * weight).sum().backward()
    (wanted * weight.double()).sum().backward()
    torch.testing.assert_close(y.double(), wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.grad.double(), exact.grad, atol=4e-6, rtol=4e-6)


def test_other_types_keep_pytorchs_own() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        x = torch.linspace(-4, 4, 99, dtype=dtype)
        assert torch.equal(tanh_gelu(x), gelu(x, approximate="tanh"))


def test_every_gelu_of_flux_is_it(tiny_base: Path) -> None:
    transformer = load(tiny_base).experts["transformer"]
    double, single = transformer.transformer_blocks[0], transformer.single_transformer_blocks[0]
    assert double.ff.net[0].gelu is tanh_gelu
    assert double.ff_context.net[0].gelu is tanh_gelu
    assert isinstance(single.act_mlp, nn.GELU)
    assert single.act_mlp.forward is tanh_gelu
