"""`evaluate score`: metrics over folders, as one table of methods and one by group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import typer

from ..config import ConfigError
from ..data import DataError
from ..data.vlm.client import Endpoint, Model, ModelError
from ..evaluate import imgedit, judge
from ..evaluate.markdown import table
from ..evaluate.motion_fidelity import Direction
from ..evaluate.registry import METRICS, Networks, choose, judge_measures, measures
from ..evaluate.scoring import Scores, find_results, measure, to_json, write_json
from ..evaluate.scoring import judge as judge_all
from ..evaluate.tasks import Task, named_files, read_tasks
from ..media.formats import CLIPS, MEDIA
from ..progress import Progress
from .evaluate_tables import missing_lines, tables
from .settings import resolve_device
from .study import short_names

OPENAI = "https://api.openai.com/v1"
# The file in a results folder that holds what judges said.
SAID = "judge.jsonl"
# Tries of a request that the server could not take, and seconds for one answer.
RETRIES, TIMEOUT = 6, 600.0


@dataclass(frozen=True)
class JudgeFlags:
    """Who judges."""

    model: str | None
    endpoint: str | None
    vlm: str | None
    key_variable: str
    concurrency: int
    max_tokens: int


@dataclass(frozen=True)
class NetworkFlags:
    """Where networks are; None: where they usually come from."""

    clip: str | None
    dino: str | None
    vgg: Path | None
    aesthetic_head: Path | None
    cotracker: str | None
    raft: Path | None
    motion: str


@dataclass(frozen=True)
class ScoreFlags:
    """The options of `evaluate score`."""

    results: list[Path]
    sources: Path
    truths: Path | None
    instruction: str | None
    metrics: list[str]
    output: Path | None
    judge: JudgeFlags
    networks: NetworkFlags
    device: str


def run_score(flags: ScoreFlags) -> None:
    """Check what was typed and whom to ask, measure, ask, print, write.

    A judge that stops on the way raises DataError at the end: what was measured is told before.
    """
    tasks, truths = _tasks(flags), _truths(flags)
    names = choose(flags.metrics, list(tasks.values()), _given(flags, tasks))
    if not names:
        raise ConfigError(
            "no metric fits: give captions, --truths or --judge (`evaluate metrics` lists them all)"
        )
    found = {folder: find_results(folder, tasks) for folder in flags.results}
    labels = _labels(flags.results)
    asked = [name for name in names if "judge" in METRICS[name].needs]
    networks = _networks(flags)
    model = _checked_model(flags) if asked else None
    made = measures(names, networks, truths)
    methods = [Scores(labels[folder], list(tasks.values())) for folder in found]
    for scores, results in zip(methods, found.values(), strict=True):
        if made:
            with Progress(len(tasks), f"measuring {scores.name}") as progress:
                measure(scores, results, truths, made, progress.advance)
    stopped = _judge(flags, model, asked, list(found.items()), methods) if model else None
    columns = [column for name in names for column in METRICS[name].columns]
    for text in (*tables(methods, columns), *missing_lines(methods, columns)):
        typer.echo(f"{text}\n")
    if flags.output:
        write_json(flags.output, to_json(methods, columns))
    if stopped:
        raise stopped


def show_metrics() -> None:
    """The list of metrics."""
    rows = [
        [name, " ".join(metric.columns), metric.about, " ".join(sorted(metric.needs))]
        for name, metric in METRICS.items()
    ]
    typer.echo(table(["metric", "columns", "what it says", "needs"], rows, numbers=False))


# ---------------------------------------------------------------- what was typed


def _tasks(flags: ScoreFlags) -> dict[str, Task]:
    problems = []
    tasks = read_tasks(flags.sources, MEDIA, flags.instruction, problems)
    if problems or not tasks:
        raise DataError(f"{flags.sources} cannot be used as tasks", problems)
    return tasks


def _truths(flags: ScoreFlags) -> dict[str, Path]:
    if flags.truths is None:
        return {}
    problems = []
    truths = named_files(flags.truths, MEDIA, problems)
    if problems or not truths:
        raise DataError(f"{flags.truths} cannot be used as true targets", problems)
    return truths


def _given(flags: ScoreFlags, tasks: Mapping[str, Task]) -> frozenset[str]:
    """What there is of what metrics may need."""
    told = list(tasks.values())
    films = [CLIPS.holds(task.source) for task in told]
    has = {
        "captions": any(task.src_caption and task.tgt_caption for task in told),
        "truths": flags.truths is not None,
        "clips": all(films),
        "pictures": not any(films),
        "judge": bool(flags.judge.model or flags.judge.vlm),
        "groups": all(task.group in imgedit.TYPES for task in told),
    }
    return frozenset(name for name, there in has.items() if there)


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Short names that differ."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a folder of results is named twice")
    if len(folders) == 1:
        return {folders[0]: folders[0].resolve().name}
    parts = [short_names(a, b)[0] for a in folders for b in folders if a is not b]
    each = len(folders) - 1
    return {
        folder: max(parts[i * each : (i + 1) * each], key=len) for i, folder in enumerate(folders)
    }


def _networks(flags: ScoreFlags) -> Networks:
    told = {name: value for name, value in vars(flags.networks).items() if value is not None}
    if flags.networks.motion not in get_args(Direction):
        raise ConfigError(
            f"--motion {flags.networks.motion}: wanted {', '.join(get_args(Direction))}"
        )
    return Networks(**told, device=resolve_device(flags.device))


# ---------------------------------------------------------------- judging


def _checked_model(flags: ScoreFlags) -> Model:
    """The judge; raises ModelError if it is plain already that it will not answer."""
    model = _model(flags)
    asyncio.run(model.check())
    return model


def _judge(
    flags: ScoreFlags,
    model: Model,
    names: list[str],
    found: list[tuple[Path, dict[str, Path]]],
    methods: list[Scores],
) -> DataError | None:
    """Fill the judge's columns; where it stops, those that it came to, and what to say of it."""
    try:
        asyncio.run(_ask_all(flags, model, names, found, methods))
    except ModelError as error:
        kept = ", ".join(str(folder / SAID) for folder, _ in found if (folder / SAID).exists())
        where = f"; what was answered is kept in {kept}" if kept else ""
        there = f"printed and in {flags.output}" if flags.output else "printed"
        return DataError(
            f"the judge stopped: {error}. What was measured before is {there}, with marks "
            f"missing{where}. The same command goes on from here"
        )
    return None


async def _ask_all(
    flags: ScoreFlags,
    model: Model,
    names: list[str],
    found: list[tuple[Path, dict[str, Path]]],
    methods: list[Scores],
) -> None:
    # One model in this process does one thing after the other.
    concurrency = 1 if flags.judge.vlm else flags.judge.concurrency
    try:
        for (folder, results), scores in zip(found, methods, strict=True):
            one = judge.Judge(model, folder / SAID)
            with Progress(len(scores.tasks), f"judging {scores.name}") as progress:
                made = judge_measures(names, one.ask)
                await judge_all(scores, results, made, concurrency, progress.advance)
            _tell_open(scores.name, one)
    finally:
        await model.close()


def _tell_open(name: str, one: judge.Judge) -> None:
    """What the same command would ask again."""
    if one.silent:
        typer.echo(f"{name}: {one.silent} questions got no answer; run this again to ask them")
    if one.cut:
        typer.echo(
            f"{name}: {one.cut} answers were too long, and cut; run this again with a higher "
            "--max-tokens to ask for them"
        )


def _model(flags: ScoreFlags) -> Model:
    who = flags.judge
    if bool(who.model) == bool(who.vlm):
        raise ConfigError("wanted either --judge NAME (with --endpoint URL) or --vlm HUB_ID")
    if who.vlm:
        from ..data.vlm.local import LocalModel

        return LocalModel(
            who.vlm,
            device=resolve_device(flags.device),
            max_tokens=who.max_tokens,
            temperature=judge.TEMPERATURE,
        )
    if who.endpoint and not who.endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {who.endpoint}: wanted an address such as http://HOST/v1")
    return Endpoint(
        who.endpoint or OPENAI,
        who.model,
        key_variable=who.key_variable,
        max_tokens=who.max_tokens,
        temperature=judge.TEMPERATURE,
        retries=RETRIES,
        timeout=TIMEOUT,
        seed=judge.SEED,
    )
