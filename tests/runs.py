"""Trainings on the CPU without the command line, and what they wrote."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import signals

from byg_train.config import TrainConfig
from byg_train.data.items import load_items
from byg_train.training.assembly import assemble
from byg_train.training.trainer import Trainer, train


def trainer(config: TrainConfig, output: Path, multiple: int) -> Trainer:
    """A trainer before its first step; pictures are of a multiple of so many pixels."""
    output.mkdir(parents=True, exist_ok=True)
    data = load_items(config.data, multiple)
    return Trainer(config, data, output, assemble(config, data, output, "cpu"))


def run(config: TrainConfig, output: Path, multiple: int, resume: bool = False) -> list[Path]:
    """A whole training; its LoRA's files."""
    output.mkdir(parents=True, exist_ok=True)
    data = load_items(config.data, multiple)
    return train(config, data, output, device="cpu", resume=resume)


def metrics(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def timeless(output: Path) -> list[dict]:
    """The metrics without what a clock measured."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in metrics(output)]


def stop_after(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Send SIGTERM after these steps of all that this process takes from now on."""
    real, taken = Trainer.optimizer_step, []

    def interrupted(self: Trainer) -> dict:
        record = real(self)
        taken.append(1)
        if len(taken) in steps:
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", interrupted)
