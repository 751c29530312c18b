"""A judging model over whole methods: opened and tried, then asked about every task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from ..data.vlm.client import Endpoint, Model, ModelError
from ..data.vlm.local import LocalModel
from .judge import SEED, TEMPERATURE, VlmJudge
from .registry import judge_measures
from .scoring import Scores, judge

# How many tasks, and what is done with them -> a context whose `advance` counts one.
Watch = Callable[[int, str], AbstractContextManager[Any]]

OPENAI = "https://api.openai.com/v1"
# The file in a results folder that holds the judge's answers.
ANSWERS = "judge.jsonl"
# Retries of a failed request, and seconds to wait for one answer.
RETRIES, TIMEOUT = 6, 600.0


class OpenQuestions(NamedTuple):
    """What the judge left open in one method: the same command would ask it again."""

    method: str
    silent: int
    """Questions that got no answer."""
    cut: int
    """Answers that were longer than the limit of tokens."""


def served_judge(url: str | None, name: str, key_variable: str, max_tokens: int) -> Model:
    """A judge behind an OpenAI-compatible server, tried by a first request. Raises ModelError."""
    model = Endpoint(
        url or OPENAI,
        name,
        key_variable=key_variable,
        retries=RETRIES,
        timeout=TIMEOUT,
        seed=SEED,
        max_tokens=max_tokens,
        temperature=TEMPERATURE,
    )
    asyncio.run(model.check())
    return model


def local_judge(path: str, max_tokens: int, device: str) -> Model:
    """A judge in this process: a hub id or folder of transformers."""
    return LocalModel(path, device=device, max_tokens=max_tokens, temperature=TEMPERATURE)


def judge_all(
    model: Model,
    names: list[str],
    methods: Mapping[Path, Scores],
    concurrency: int,
    watch: Watch,
) -> tuple[list[OpenQuestions], ModelError | None]:
    """Fill the judge's columns of methods by folder; also returns what stopped it early, if so.

    Answers are kept in each folder, and no question is asked twice.
    """
    open_questions: list[OpenQuestions] = []

    async def run() -> None:
        try:
            for folder, scores in methods.items():
                asked = VlmJudge(model, folder / ANSWERS)
                with watch(len(scores.tasks), f"judging {scores.name}") as progress:
                    made = judge_measures(names, asked.ask)
                    await judge(scores, made, concurrency, progress.advance)
                open_questions.append(OpenQuestions(scores.name, asked.silent, asked.cut))
        finally:
            await model.close()

    try:
        asyncio.run(run())
    except ModelError as error:
        return open_questions, error
    return open_questions, None


def answers_in(folders: Iterable[Path]) -> list[Path]:
    """The files of answers that there are."""
    return [file for folder in folders if (file := folder / ANSWERS).exists()]
