"""Trainings with NP-Edit on the tiny random FLUX."""

from __future__ import annotations

from pathlib import Path

import tiny_run
import torch
from torch import Tensor

from byg_train.config import TrainConfig, merged
from byg_train.training.trainer import Trainer

STUDENT = {
    "method": {"objective": "npedit", "aux_updates": 2, "critic_weight": 0.5, "ema_decay": None},
    "critic": {"path": "world", "questions": "world"},
    "warmup": {"min_steps": 1, "max_steps": 1},
    "optimizer": {"lr": 1e-3, "skip_above": 300.0},
    "sample": {"sampler": "renoise", "steps": 4},
    "train": {"steps": 3, "sample_every": 0, "checkpoint_every": 1},
}


def settings(base: Path, data: Path, over: dict | None = None) -> TrainConfig:
    return tiny_run.settings(base, data, merged(STUDENT, over or {}))


def weights(t: Trainer, role: str = "edit") -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in t.bank.named_parameters(role).items()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return any(not torch.equal(a[name], b[name]) for name in a)
