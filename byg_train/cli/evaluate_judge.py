"""The judge of `evaluate score`: open it, ask it, and say what it left open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..config import ConfigError
from ..data import DataError

if TYPE_CHECKING:
    from ..data.vlm.client import Model
    from ..evaluate.scoring import Scores

OPENAI = "https://api.openai.com/v1"
# The file in a results folder that holds the judge's answers.
ANSWERS = "judge.jsonl"
# Retries of a failed request, and seconds to wait for one answer.
RETRIES, TIMEOUT = 6, 600.0


def judge_model(
    judge: str | None,
    endpoint: str | None,
    vlm: str | None,
    key_variable: str,
    max_tokens: int,
    device: str,
) -> Model:
    """Open the judge and check that it answers, before anything is measured."""
    from ..data.vlm.client import Endpoint
    from ..data.vlm.local import LocalModel
    from ..evaluate.judge import SEED, TEMPERATURE
    from .options import resolve_device

    if bool(judge) == bool(vlm):
        raise ConfigError("wanted either --judge NAME (with --endpoint URL) or --vlm HUB_ID")
    limits = {"max_tokens": max_tokens, "temperature": TEMPERATURE}
    if vlm:
        return LocalModel(vlm, device=resolve_device(device), **limits)
    model = Endpoint(
        endpoint or OPENAI,
        judge,
        key_variable=key_variable,
        retries=RETRIES,
        timeout=TIMEOUT,
        seed=SEED,
        **limits,
    )
    asyncio.run(model.check())
    return model


def judge_all(
    model: Model,
    names: list[str],
    result_files: Mapping[Path, dict[str, Path]],
    methods: Sequence[Scores],
    concurrency: int,
) -> DataError | None:
    """Fill the judge's columns; returns what stopped it early, if anything did."""
    from ..data.vlm.client import ModelError
    from ..evaluate.judge import VlmJudge
    from ..evaluate.registry import judge_measures
    from ..evaluate.scoring import judge as judge_method
    from ..progress import Progress

    async def run() -> None:
        try:
            for (folder, files), scores in zip(result_files.items(), methods, strict=True):
                judge = VlmJudge(model, folder / ANSWERS)
                with Progress(len(scores.tasks), f"judging {scores.name}") as progress:
                    made = judge_measures(names, judge.ask)
                    await judge_method(scores, files, made, concurrency, progress.advance)
                _report_open(scores.name, judge.silent, judge.cut)
        finally:
            await model.close()

    try:
        asyncio.run(run())
    except ModelError as error:
        return error
    return None


def _report_open(name: str, silent: int, cut: int) -> None:
    """Say what the same command would ask again."""
    if silent:
        typer.echo(f"{name}: {silent} questions got no answer; run this again to ask them")
    if cut:
        typer.echo(
            f"{name}: {cut} answers were too long, and cut; run this again with a higher "
            "--max-tokens to ask for them"
        )


def stopped_judge(stopped: DataError, folders: list[Path], output: Path | None) -> DataError:
    """Say what is there although the judge stopped."""
    kept = ", ".join(str(path) for f in folders if (path := f / ANSWERS).exists())
    where = f"; its answers so far are kept in {kept}" if kept else ""
    there = f"printed and in {output}" if output else "printed"
    return DataError(
        f"the judge stopped: {stopped}. What was measured before is {there}, with marks "
        f"missing{where}. Run the same command again to continue"
    )
