"""A folder of tiny clips, settings to train the tiny Wans of tiny_wan.py on it, and trainings."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import runs
import torch
from tiny_wan import FRAMES, HEIGHT, TEXT_LEN, WIDTH, base

from byg_train.config import TrainConfig, build_config, merged
from byg_train.media.writer import write_clip
from byg_train.training.trainer import Trainer

FPS = 8
SMALL = {
    "model": {
        "family": "wan", "dtype": "float32", "text_len": TEXT_LEN, "reference_mode": "shared",
        "gradient_checkpointing": False,
    },
    "guidance": {"train": None, "prior": None, "sample": None},
    "data": {"resolution": 45, "frames": FRAMES, "fps": FPS, "holdout": 1},
    "method": {"ema_decay": 0.9, "identity_probability": 0.3},
    "rollout": {"steps": 5, "shift": 12.0},
    "time": {"distribution": "logit_normal", "shift": 12.0},
    "warmup": {"min_steps": 2, "max_steps": 2},
    "lora": {"rank": 4},
    "train": {
        "steps": 4, "batch_size": 1, "global_batch": 4, "sample_every": 0, "checkpoint_every": 2,
        "check_gradients_every": 2, "keep_checkpoints": 9, "weigh_losses": False,
    },
    "sample": {"steps": 2, "shift": 12.0, "count": 1},
}  # fmt: skip
NO_WARMUP = {"warmup": {"min_steps": 0, "max_steps": 0}}


def write_clips(folder: Path, number: int = 5) -> Path:
    """`number` clips of noise with metadata.jsonl; the last is of split `test`."""
    rng = np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w") as file:
        for i in range(number):
            frames = rng.integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
            write_clip(folder / f"{i}.mp4", frames, Fraction(FPS))
            row = {
                "file_name": f"{i}.mp4",
                "src_caption": f"a red fox runs over the snow {i}",
                "tgt_caption": f"a red fox runs over the snow {i} in cartoon style",
                "instruction": "turn the video to cartoon style",
                "reverse_instruction": "turn the video to photo-realistic style",
                "split": "test" if i == number - 1 else "train",
            }
            file.write(json.dumps(row) + "\n")
    return folder


def settings(data: Path, over: dict | None = None, kind: str = "pair") -> TrainConfig:
    """A run of a "pair" of experts, or of "one" network."""
    where = {"model": {"path": str(base(kind))}, "data": {"path": str(data)}}
    return build_config(merged(merged(SMALL, where), over or {}))


def trainer(config: TrainConfig, output: Path) -> Trainer:
    return runs.trainer(config, output, 16)


def run(config: TrainConfig, output: Path, resume: bool = False) -> list[Path]:
    return runs.run(config, output, 16, resume)


def randomise(t: Trainer, seed: int = 5) -> None:
    """Random A and B, the same in both roles, of the networks' own type."""
    g = torch.Generator().manual_seed(seed)
    for p in t.bank.named_parameters().values():
        p.data = 0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)
    t.bank.copy_to_ema()
