"""What backward keeps of the blocks of a network, and what it computes again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from ..config import ModelConfig

# PyTorch's attention on every kind of device, as far as this version knows it.
ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
)


def use_checkpointing(network: nn.Module, config: ModelConfig) -> None:
    """Let blocks compute themselves again in backward, as `model.gradient_checkpointing` says.

    It is active whenever gradients are on, also in eval mode. Reentrant checkpointing would cut the
    graph: no input of a block needs a gradient, only the LoRA inside does.
    """
    if not config.gradient_checkpointing:
        return
    chosen = {id(block) for block in spread(blocks_of(network), config.checkpointed_blocks)}
    again = partial(checkpoint, use_reentrant=False)
    if config.keep_attention:
        kept = [getattr(torch.ops.aten, n).default for n in ATTENTION if hasattr(torch.ops.aten, n)]
        again = partial(again, context_fn=partial(create_selective_checkpoint_contexts, kept))

    def run(block: Callable[..., Any], *inputs: Any) -> Any:
        return again(block, *inputs) if id(block) in chosen else block(*inputs)

    network.enable_gradient_checkpointing(run)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks, in their order."""
    lists = (child for child in network.children() if isinstance(child, nn.ModuleList))
    return [block for blocks in lists for block in blocks]


def spread(blocks: list[nn.Module], share: float) -> list[nn.Module]:
    """A share of the blocks, the nearest number of them, evenly over all."""
    of, number = len(blocks), max(1, round(share * len(blocks)))
    return [b for i, b in enumerate(blocks) if (i + 1) * number // of > i * number // of]


def boundaries(config: ModelConfig, device: torch.device) -> AbstractContextManager[None]:
    """Let what a graph keeps between the blocks wait in main memory, if it is set so."""
    if not (config.boundaries_on_cpu and torch.is_grad_enabled()):
        return nullcontext()
    return torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
