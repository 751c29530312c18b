"""`evaluate score` and `evaluate metrics`: metrics over folders, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ..config import ConfigError
from ..data import DataError
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
)

if TYPE_CHECKING:
    from ..evaluate.scoring import Measure, Scores

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
        list[Path], typer.Argument(metavar="RESULTS...", help="One folder for each method.")
    ],
    sources: Sources,
    truths: Annotated[
        Path | None,
        typer.Option(help="Folder of true targets, with the same file names as the results."),
    ] = None,
    instruction: Instruction = None,
    metrics: Annotated[
        str,
        typer.Option(help="Metrics A,B as `evaluate metrics` lists them; default: all that fit."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--json", help="File for all values, of every single edit too.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Name of the judging model, for viescore and imgedit.")
    ] = None,
    endpoint: Server = None,
    vlm: LocalVlm = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    concurrency: Concurrency = 8,
    max_tokens: MaxTokens = 512,
    clip: Annotated[str | None, typer.Option(help="Hub id or folder of CLIP.")] = None,
    dino: Annotated[str | None, typer.Option(help="Hub id or folder of DINO.")] = None,
    vgg: Annotated[Path | None, typer.Option(help="Safetensors file of VGG-16, for lpips.")] = None,
    aesthetic_head: Annotated[
        Path | None, typer.Option(help="Safetensors file of LAION's predictor, for aesthetic.")
    ] = None,
    cotracker: Annotated[
        str | None,
        typer.Option(help="Checkout of CoTracker, or `hub` (CC-BY-NC), for motion."),
    ] = None,
    raft: Annotated[
        Path | None,
        typer.Option(help="Safetensors file of torchvision's raft_large, for dynamic."),
    ] = None,
    motion: Annotated[
        str, typer.Option(help="Motion fidelity: edit_to_src, symmetric_mean or symmetric_sum.")
    ] = "edit_to_src",
    device: Device = "auto",
) -> None:
    """Score methods in one table: means, standard errors, and the number of missing values."""
    from ..evaluate.networks import Direction, Networks
    from ..evaluate.registry import METRICS, available_inputs, choose, measures
    from ..evaluate.scoring import Scores, find_results, to_json, write_json
    from ..evaluate.tasks import expect_tasks
    from .evaluate_judge import judge_all, judge_model, stopped_judge
    from .evaluate_tables import missing_lines, tables
    from .options import resolve_device

    tasks = expect_tasks(sources, instruction)
    true_files = _truths(truths) if truths else {}
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
    result_files = {folder: find_results(folder, tasks) for folder in results}
    labels = _labels(results)
    judged = [name for name in names if METRICS[name].build_judge]
    model = judge_model(judge, endpoint, vlm, key_variable, max_tokens, device) if judged else None
    with _hints():
        made = measures(names, networks, true_files)
    methods = [Scores(labels[folder], list(tasks.values())) for folder in result_files]
    _measure_all(methods, result_files, true_files, made)
    # A model in this process answers one question after the other.
    parallel = 1 if vlm else concurrency
    stopped = judge_all(model, judged, result_files, methods, parallel) if model else None
    columns = [column for name in names for column in METRICS[name].columns]
    for text in (*tables(methods, columns), *missing_lines(methods, columns)):
        typer.echo(f"{text}\n")
    if output:
        write_json(output, to_json(methods, columns))
    if stopped:
        raise stopped_judge(stopped, list(result_files), output)


def _measure_all(
    methods: Sequence[Scores],
    result_files: Mapping[Path, dict[str, Path]],
    truths: dict[str, Path],
    made: Sequence[Measure],
) -> None:
    from ..evaluate.scoring import measure
    from ..progress import Progress

    for scores, files in zip(methods, result_files.values(), strict=True):
        if made:
            with Progress(len(scores.tasks), f"measuring {scores.name}") as progress:
                measure(scores, files, truths, made, progress.advance)


def metrics() -> None:
    """List the metrics, the columns that they fill, and what they need."""
    from ..evaluate.markdown import table
    from ..evaluate.registry import METRICS

    rows = [
        [name, " ".join(metric.columns), metric.about, " ".join(sorted(metric.needs))]
        for name, metric in METRICS.items()
    ]
    typer.echo(table(["metric", "columns", "meaning", "needs"], rows, numbers=False))


# ---------------------------------------------------------------- input


def _truths(folder: Path) -> dict[str, Path]:
    from ..evaluate.tasks import named_files
    from ..media.formats import MEDIA

    problems = []
    truths = named_files(folder, MEDIA, problems)
    if problems or not truths:
        raise DataError(f"{folder} cannot be used as true targets", problems)
    return truths


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Short names that differ."""
    from ..study.items import short_names

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a folder of results is named twice")
    if len(folders) == 1:
        return {folders[0]: folders[0].resolve().name}
    parts = [short_names(a, b)[0] for a in folders for b in folders if a is not b]
    each = len(folders) - 1
    return {
        folder: max(parts[i * each : (i + 1) * each], key=len) for i, folder in enumerate(folders)
    }


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
