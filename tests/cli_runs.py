"""The command line in this process, small training runs of it, and what a refusal looks like."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from byg_train.cli.app import app

SMALL = (
    "model.text_len=24",
    "model.dtype=float32",
    "model.gradient_checkpointing=false",
    "data.resolution=16",
    "rollout.steps=2",
    "warmup.min_steps=1",
    "warmup.max_steps=1",
    "lora.rank=2",
    "train.global_batch=2",
    "train.batch_size=2",
    "sample.steps=1",
    "sample.count=1",
)


def byg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def small(base: Path, data: Path, output: Path, *more: object) -> list[object]:
    settings = [part for assignment in SMALL for part in ("--set", assignment)]
    where = ["--model", base, "--data", data, "--output", output, "--device", "cpu"]
    return ["--preset", "flux_style", *where, *settings, *more]


def refused(result: Result, *words: str) -> None:
    """Exit code 2, one message with these words on stderr, no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr, result.stderr
