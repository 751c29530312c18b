"""How a network computes: autocast or bfloat16 throughout, kernels of attention, compiled roles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import pytest
import tiny_flux
import tiny_wan
import tiny_z_image
import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from tiny_banks import flux, wan
from torch import Tensor

from byg_train.config import ConfigError, build_config
from byg_train.models.backbone import Backbone
from byg_train.models.lora import LoraBank
from byg_train.training import assembly

Make = Callable[..., tuple[Backbone, LoraBank]]


def z_image(_: Path, **changes: object) -> tuple[Backbone, LoraBank]:
    backbone = tiny_z_image.load(**changes)
    bank = tiny_flux.make_bank(backbone)
    tiny_flux.randomise(bank)
    return backbone, bank


TINY = {flux: (tiny_flux, tiny_flux.T), wan: (tiny_wan, tiny_wan.HIGH)}
TINY |= {z_image: (tiny_z_image, tiny_flux.T)}


def velocity(make: Make, backbone: Backbone) -> Tensor:
    tiny, t = TINY[make]
    return backbone.velocity(tiny.latents(1), t, tiny.text(2), tiny.latents(7), guidance=2.0)


def gradients(make: Make, backbone: Backbone, bank: LoraBank) -> list[Tensor]:
    velocity(make, backbone).square().sum().backward()
    grads = [p.grad for p in bank.named_parameters().values() if p.grad is not None]
    for p in bank.named_parameters().values():
        p.grad = None
    return grads


def rounded(backbone: Backbone) -> Backbone:
    """With the weights that bfloat16 has."""
    for p in backbone.experts.parameters():
        p.data = p.data.bfloat16().to(p.dtype)
    for layer in (m for m in backbone.experts.modules() if hasattr(m.forward, "merged")):
        layer.forward.merged.clear()
    return backbone


@pytest.mark.parametrize("make", TINY)
def test_bfloat16_throughout_is_about_as_near_to_float32(make: Make, tiny_base: Path) -> None:
    exact, exact_bank = make(tiny_base)
    wanted, found = velocity(make, rounded(exact)), {}
    grads = gradients(make, exact, exact_bank)
    for autocast in (True, False):
        backbone, bank = make(tiny_base, dtype="bfloat16", autocast=autocast)
        v = velocity(make, rounded(backbone))
        assert v.dtype == torch.float32
        mine = gradients(make, backbone, bank)
        assert len(mine) == len(grads) and {g.dtype for g in mine} == {torch.float32}
        assert all(g.norm() > 0 for g in mine)
        found[autocast] = ((v - wanted).norm() / wanted.norm()).item()
    assert 0 < found[False] < 2 * found[True] < 0.1, found


@pytest.mark.parametrize("make", TINY)
def test_plain_layers_take_bfloat16_too(make: Make, tiny_base: Path) -> None:
    """As on a GPU, where no LoRA is merged into its weights."""
    backbone, bank = make(tiny_base, dtype="bfloat16", autocast=False)
    merged = velocity(make, backbone)
    for layer in (m for m in backbone.experts.modules() if hasattr(m.forward, "plain")):
        layer.forward = layer.forward.plain
    assert (velocity(make, backbone) - merged).norm() < 0.03 * merged.norm()
    assert all(g.norm() > 0 for g in gradients(make, backbone, bank))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("make", [flux, wan])
def test_a_kernel_of_attention_changes_no_gradient(
    make: Make, checkpointing: bool, tiny_base: Path
) -> None:
    wanted = gradients(make, *make(tiny_base, gradient_checkpointing=checkpointing))
    chosen = make(tiny_base, gradient_checkpointing=checkpointing, attention="math")
    for got, want in zip(gradients(make, *chosen), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_a_kernel_of_attention_is_of_its_network_alone(tiny_base: Path) -> None:
    backbone, _ = wan(tiny_base, attention="math")
    processors = (getattr(m, "processor", None) for m in backbone.experts.modules())
    assert {p._attention_backend.value for p in processors if p} == {"_native_math"}
    assert _AttentionBackendRegistry._active_backend == AttentionBackendName.NATIVE


def test_kernels_without_a_backward_are_not_offered() -> None:
    with pytest.raises(ConfigError, match="'auto', 'math', 'efficient', 'flash' or 'cudnn'"):
        build_config({"model": {"attention": "sage"}})


@pytest.mark.parametrize(("device", "asked"), [("cuda", ["high"]), ("cpu", [])])
def test_float32_products_are_tf32_on_a_gpu(
    device: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is float32 beside the network, such as the VAE; nothing is changed on a CPU."""
    found: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", found.append)
    monkeypatch.setattr(assembly, "Accelerator", lambda **_: exit("far enough"))
    with pytest.raises(SystemExit, match="far enough"):
        assembly.assemble(build_config({}), None, tmp_path, device)
    assert found == asked


@pytest.mark.slow
@pytest.mark.parametrize("make", [flux, wan])
def test_compiled_blocks_are_the_eager_ones_in_every_role(
    make: Make, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced with their gradients (AOTAutograd), and run without a compiler of C++."""
    for kind in (FluxTransformer2DModel, WanTransformer3DModel):
        traced = partialmethod(kind.compile_repeated_blocks, backend="aot_eager")
        monkeypatch.setattr(kind, "compile_repeated_blocks", traced)
    (eager, own), (compiled, bank) = make(tiny_base), make(tiny_base, compile=True)
    for role in ("edit", "base", "ema", "edit"):  # back and forth: no stale graph
        with torch.no_grad(), own.using(role), bank.using(role):
            torch.testing.assert_close(velocity(make, compiled), velocity(make, eager))
    both = gradients(make, compiled, bank), gradients(make, eager, own)
    for got, want in zip(*both, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
