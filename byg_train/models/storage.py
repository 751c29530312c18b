"""How the frozen weights of a base are stored: in the type that computes, in 8 bits or in 4.

Only the linear layers of the repeated blocks are stored otherwise: nearly all weights are there;
what embeds times, texts and pixels is small and sensitive. LoRAs go in afterwards, over layers that
already are what they will be. What is stored in 8 bits becomes `model.dtype` again while a layer
works, and backward keeps that copy: only with gradient checkpointing is it gone after a block.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import ConfigError

if TYPE_CHECKING:
    from ..config import ModelConfig

# Weights of a row that share a scale in nf4. bitsandbytes' kernels for CPUs misread shorter rows.
NF4_BLOCK = 64
# The values of `model.storage` that a package provides.
PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}


def require(package: str, setting: str) -> None:
    """ConfigError where a package that a setting needs is not here."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"{setting} needs the {package} package, which is not installed: "
            f"pip install {package}, or change the setting"
        )


def require_storage(storage: str) -> None:
    """ConfigError where `model.storage` needs a package that is not here."""
    if storage in PACKAGES:
        require(PACKAGES[storage], f"model.storage={storage}")


def store(network: nn.Module, config: ModelConfig, device: str) -> nn.Module:
    """Store a network's blocks as `model.storage` says; it stays on the CPU.

    Before a LoRA is put in, and layer by layer: at no time is there a second copy of the network.
    `device` does the arithmetic of nf4.
    """
    require_storage(config.storage)
    dtype = getattr(torch, config.dtype)
    for blocks in (child for child in network.children() if isinstance(child, nn.ModuleList)):
        if config.storage == "fp8":
            _as_fp8(blocks, dtype)
        elif config.storage == "int8":
            _as_int8(blocks)
        elif config.storage == "nf4":
            _as_nf4(blocks, dtype, device)
    return network


def is_plain(weight: Tensor) -> bool:
    """Whether a weight is an ordinary tensor of numbers, with which anybody may compute."""
    return type(weight) in (Tensor, nn.Parameter) and weight.dtype.itemsize > 1


def is_packed(module: nn.Module) -> bool:
    """Whether a layer's weight is more than one tensor: it moves by `.to`, and not by `.data`."""
    return any(type(p) not in (Tensor, nn.Parameter) for p in module.parameters(recurse=False))


def _as_fp8(blocks: nn.Module, dtype: torch.dtype) -> None:
    """Layerwise casting: steps of 2^-9 below 2^-6, a rounding of 3.3 % of a weight's deviation."""
    from diffusers.hooks import apply_layerwise_casting

    # No pattern: diffusers' own one skips `norm`, where FLUX has a quarter of its weights.
    apply_layerwise_casting(blocks, torch.float8_e4m3fn, dtype, skip_modules_pattern=())


def _as_int8(blocks: nn.Module) -> None:
    """A scale for each row: a rounding of 0.8 % of a weight's deviation."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(blocks, Int8WeightOnlyConfig(set_inductor_config=False))


def _as_nf4(blocks: nn.Module, dtype: torch.dtype, device: str) -> None:
    """Sixteen levels at the quantiles of a normal distribution, and a scale for 64 weights: 9 %."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for module in list(blocks.modules()):
        for name, linear in list(module.named_children()):
            if type(linear) is not nn.Linear or linear.in_features % NF4_BLOCK:
                continue
            with torch.device("meta"):
                packed = Linear4bit(
                    linear.in_features, linear.out_features, linear.bias is not None, dtype
                )
            packed.weight = Params4bit(
                linear.weight.data, requires_grad=False, quant_type="nf4", module=packed
            )
            packed.bias = linear.bias
            # On a CPU with bfloat16 it would be packed anew, for inference alone, and gradients of
            # later passes would be lost.
            packed.support_avx512bf16_for_cpu = False
            setattr(module, name, packed.to(device).to("cpu"))
