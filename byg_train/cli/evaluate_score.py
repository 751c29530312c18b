"""`evaluate score` and `evaluate metrics`: metrics over folders, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from typer import Argument, Option

from ..config import ConfigError
from ..data import DataError
from ..progress import Progress
from .options import (
    Concurrency,
    Device,
    Instruction,
    KeyVariable,
    LocalVlm,
    MaxTokens,
    Server,
    Sources,
    names_of,
    resolve_device,
)

if TYPE_CHECKING:
    from ..data.vlm.client import Model
    from ..evaluate.judging import OpenQuestions

# What a metric may need -> how to give it.
HINTS = {
    "captions": "write src_caption and tgt_caption into the sources' metadata.jsonl",
    "truths": "pass --truths, the folder of true targets",
    "clips": "not all of these tasks are clips",
    "pictures": "not all of these tasks are pictures",
    "judge": "pass --judge MODEL (with --endpoint), or --vlm",
    "groups": "the tasks' groups must be ImgEdit-Bench's types",
    "metrics": "choose with --metrics",
    "cotracker": "pass --cotracker with a checkout of facebookresearch/co-tracker, or `hub` to "
    "download it (its weights are CC-BY-NC: for non-commercial use)",
    "aesthetic_head": "pass --aesthetic-head FILE, LAION's predictor for CLIP ViT-L/14 as "
    "safetensors with `weight` and `bias`; `torch.load(file, weights_only=True)` and "
    "`safetensors.torch.save_file` make it from the published .pth",
}


def score(
    results: Annotated[
        list[Path], Argument(metavar="RESULTS...", help="One folder for each method.")
    ],
    sources: Sources,
    truths: Annotated[
        Path | None, Option(help="Folder of true targets, with the same file names as the results.")
    ] = None,
    instruction: Instruction = None,
    metrics: Annotated[
        str, Option(help="Metrics A,B as `evaluate metrics` lists them; default: all that fit.")
    ] = "",
    output: Annotated[
        Path | None, Option("--json", help="File for all values, of every single edit too.")
    ] = None,
    judge: Annotated[
        str | None, Option(help="Name of the judging model, for viescore and imgedit.")
    ] = None,
    endpoint: Server = None,
    vlm: LocalVlm = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    concurrency: Concurrency = 8,
    max_tokens: MaxTokens = 512,
    clip: Annotated[str | None, Option(help="Hub id or folder of CLIP.")] = None,
    dino: Annotated[str | None, Option(help="Hub id or folder of DINO.")] = None,
    vgg: Annotated[Path | None, Option(help="Safetensors file of VGG-16, for lpips.")] = None,
    aesthetic_head: Annotated[
        Path | None, Option(help="Safetensors file of LAION's predictor, for aesthetic.")
    ] = None,
    cotracker: Annotated[
        str | None, Option(help="Checkout of CoTracker, or `hub` (CC-BY-NC), for motion.")
    ] = None,
    raft: Annotated[
        Path | None, Option(help="Safetensors file of torchvision's raft_large, for dynamic.")
    ] = None,
    motion: Annotated[
        str, Option(help="Motion fidelity: edit_to_src, symmetric_mean or symmetric_sum.")
    ] = "edit_to_src",
    device: Device = "auto",
) -> None:
    """Score methods in one table: means, standard errors, and the number of missing values."""
    from ..evaluate.judging import judge_all
    from ..evaluate.networks import Direction, Networks
    from ..evaluate.registry import METRICS, available_inputs, choose, measures
    from ..evaluate.score_tables import missing_lines, tables
    from ..evaluate.scoring import measure, methods_of, to_json
    from ..evaluate.tasks import expect_files, expect_tasks
    from ..files import write_json

    tasks = expect_tasks(sources, instruction)
    true_files = expect_files(truths, "true targets") if truths else {}
    if motion not in get_args(Direction):
        raise ConfigError(f"--motion {motion}: wanted {', '.join(get_args(Direction))}")
    paths = {"clip": clip, "dino": dino, "vgg": vgg, "aesthetic_head": aesthetic_head,
             "cotracker": cotracker, "raft": raft, "motion": motion}  # fmt: skip
    given = {name: value for name, value in paths.items() if value is not None}
    networks = Networks(**given, device=resolve_device(device))
    with _hints():
        inputs = available_inputs(
            [*tasks.values()], networks, truths=bool(truths), judge=bool(judge or vlm)
        )
        names = choose(names_of(metrics), inputs)
    if not names:
        raise ConfigError(
            "no metric fits: give captions, --truths or --judge (`evaluate metrics` lists them all)"
        )
    methods = methods_of(results, tasks)
    judged = [name for name in names if METRICS[name].build_judge]
    model = _judge(judge, endpoint, vlm, key_variable, max_tokens, device) if judged else None
    with _hints():
        made = measures(names, networks, true_files)
    for scores in methods.values() if made else ():
        with Progress(len(scores.tasks), f"measuring {scores.name}") as progress:
            measure(scores, true_files, made, progress.advance)
    stopped = None
    if model:
        # A model in this process answers one question after the other.
        parallel = 1 if vlm else concurrency
        left_open, stopped = judge_all(model, judged, methods, parallel, Progress)
        _report_open(left_open)
    columns = [column for name in names for column in METRICS[name].columns]
    scored = [*methods.values()]
    for text in (*tables(scored, columns), *missing_lines(scored, columns)):
        typer.echo(f"{text}\n")
    if output:
        write_json(output, to_json(scored, columns))
    if stopped:
        raise _stopped_judge(stopped, results, output)


def metrics() -> None:
    """List the metrics, the columns that they fill, and what they need."""
    from ..evaluate.registry import METRICS
    from ..evaluate.summary import table

    rows = [
        [name, " ".join(metric.columns), metric.about, " ".join(sorted(metric.needs))]
        for name, metric in METRICS.items()
    ]
    typer.echo(table(["metric", "columns", "meaning", "needs"], rows, numbers=False))


@contextmanager
def _hints() -> Iterator[None]:
    """Add to an error of a metric how to give what it lacks."""
    from ..evaluate.networks import UnavailableError

    try:
        yield
    except UnavailableError as error:
        option = f"--{error.need.replace('_', '-')}"
        usual = f"pass another with {option}, or leave the metric out of --metrics"
        raise DataError(f"{error}; {HINTS.get(error.need, usual)}") from None


# ---------------------------------------------------------------- the judge


def _judge(
    judge: str | None,
    endpoint: str | None,
    vlm: str | None,
    key_variable: str,
    max_tokens: int,
    device: str,
) -> Model:
    """Open the judge and check that it answers, before anything is measured."""
    from ..evaluate.judging import local_judge, served_judge

    if bool(judge) == bool(vlm):
        raise ConfigError("wanted either --judge NAME (with --endpoint URL) or --vlm HUB_ID")
    if vlm:
        return local_judge(vlm, max_tokens, resolve_device(device))
    return served_judge(endpoint, judge, key_variable, max_tokens)


def _report_open(left_open: list[OpenQuestions]) -> None:
    """Say what the same command would ask again."""
    for name, silent, cut in left_open:
        if silent:
            typer.echo(f"{name}: {silent} questions got no answer; run this again to ask them")
        if cut:
            typer.echo(
                f"{name}: {cut} answers were too long, and cut; run this again with a higher "
                "--max-tokens to ask for them"
            )


def _stopped_judge(stopped: DataError, folders: list[Path], output: Path | None) -> DataError:
    """Say what is there although the judge stopped."""
    from ..evaluate.judging import answers_in

    kept = ", ".join(map(str, answers_in(folders)))
    where = f"; its answers so far are kept in {kept}" if kept else ""
    there = f"printed and in {output}" if output else "printed"
    return DataError(
        f"the judge stopped: {stopped}. What was measured before is {there}, with marks "
        f"missing{where}. Run the same command again to continue"
    )
