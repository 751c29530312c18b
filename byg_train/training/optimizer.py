"""AdamW and its rate, as the configuration says."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ..config import TrainConfig
from ..models.storage import require
from .state import State


def learning_rate(config: TrainConfig, step: int, main_step: int) -> float:
    """The rate of a step (0-based): linear warm-up, then constant or cosine over the main steps."""
    o = config.optimizer
    rate = o.lr * min(1.0, (step + 1) / o.warmup) if o.warmup else o.lr
    if o.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, main_step / config.train.steps)))
    return rate


def require_optimizer(config: TrainConfig) -> None:
    """ConfigError where `optimizer.name` needs a package that is not here."""
    if config.optimizer.name == "adamw8bit":
        require("bitsandbytes", "optimizer.name=adamw8bit")


def helper_rate(config: TrainConfig, state: State) -> float:
    """The rate of what is trained beside the editor: as the editor's, times their ratio."""
    own = config.method.aux_lr or config.optimizer.lr
    return learning_rate(config, state.step, state.main_step) * own / config.optimizer.lr


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def build_optimizer(config: TrainConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimiser over the LoRA; 8-bit states need bitsandbytes."""
    o = config.optimizer
    options = {"lr": o.lr, "betas": o.betas, "weight_decay": o.weight_decay}
    if o.name == "adamw":
        # One kernel, and no copies of all gradients and moments while it runs.
        optimizer = torch.optim.AdamW(parameters, **options, fused=True)
    else:
        require_optimizer(config)
        from bitsandbytes.optim import AdamW8bit

        optimizer = AdamW8bit(parameters, **options)
    # Neither kernel tells that it wrote to the weights, of which there are merged copies.
    optimizer.register_step_post_hook(lambda *_: increment_version(parameters))
    return optimizer
