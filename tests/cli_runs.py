"""Small training runs from the command line, and what a refusal looks like."""

from __future__ import annotations

from pathlib import Path

from typer.testing import Result

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
