"""Settings to train the tiny FLUX of `tiny_base` with, and trainings of it."""

from __future__ import annotations

from pathlib import Path

import runs

from byg_train.config import TrainConfig, build_config, merged
from byg_train.training.trainer import Trainer

SMALL = {
    "model": {"dtype": "float32", "text_len": 24, "gradient_checkpointing": False},
    "data": {"resolution": 16, "holdout": 1},
    "method": {"ema_decay": 0.9, "identity_probability": 0.3},
    "rollout": {"steps": 3},
    "warmup": {"min_steps": 2, "max_steps": 2},
    "lora": {"rank": 4},
    "train": {
        "steps": 4,
        "batch_size": 2,
        "global_batch": 4,
        "sample_every": 2,
        "checkpoint_every": 2,
        "check_gradients_every": 2,
        "keep_checkpoints": 9,
        "weigh_losses": False,
    },
    "sample": {"steps": 2, "shift": 1.0, "count": 2},
}


def settings(base: Path, data: Path, over: dict | None = None) -> TrainConfig:
    tables = merged(SMALL, {"model": {"path": str(base)}, "data": {"path": str(data)}})
    return build_config(merged(tables, over or {}))


def trainer(config: TrainConfig, output: Path) -> Trainer:
    return runs.trainer(config, output, 8)


def run(config: TrainConfig, output: Path, resume: bool = False) -> Path:
    """A whole training; its LoRA's file."""
    return runs.run(config, output, 8, resume)[0]
