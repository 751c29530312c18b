"""The metrics by name. A new metric is a file in `metrics/` with its record `METRIC`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from ..media.formats import CLIPS
from . import metrics
from .judge import Ask
from .metric import JudgeMeasure, Measure, Metric, Truths
from .metrics import imgedit
from .networks import Networks, UnavailableError
from .tasks import Task

_RECORDS: list[Metric] = [
    import_module(f"{metrics.__name__}.{file.name}").METRIC
    for file in iter_modules(metrics.__path__)
]
METRICS = {metric.name: metric for metric in sorted(_RECORDS, key=lambda metric: metric.place)}


def measures(names: Sequence[str], networks: Networks, truths: Truths) -> list[Measure]:
    """Build the metrics that need no judge; networks are loaded here, so nothing fails late."""
    return [build(networks, truths) for name in names if (build := METRICS[name].build)]


def judge_measures(names: Sequence[str], ask: Ask) -> list[JudgeMeasure]:
    """Build the metrics that ask a judge."""
    return [build(ask) for name in names if (build := METRICS[name].build_judge)]


def available_inputs(
    tasks: Sequence[Task], networks: Networks, *, truths: bool, judge: bool
) -> frozenset[str]:
    """Name the inputs that metrics can use."""
    clips = [CLIPS.holds(task.source) for task in tasks]
    inputs = {
        "captions": any(task.src_caption and task.tgt_caption for task in tasks),
        "truths": truths,
        "clips": all(clips),
        "pictures": not any(clips),
        "judge": judge,
        "groups": all(task.group in imgedit.TYPES for task in tasks),
        "cotracker": networks.cotracker is not None,
        "aesthetic_head": networks.aesthetic_head is not None,
    }
    return frozenset(name for name, there in inputs.items() if there)


def choose(names: Sequence[str], available: frozenset[str]) -> list[str]:
    """Check the metrics that are asked for, or choose the usual ones whose needs are met.

    Raises UnavailableError for an unknown metric (`need` is "metrics") and for a missing input.
    """
    for name in names:
        if name not in METRICS:
            message = f"unknown metric {name}; known are {', '.join(METRICS)}"
            raise UnavailableError(message, "metrics")
        for need in sorted(METRICS[name].needs - available):
            raise UnavailableError(f"{name} needs {need.replace('_', ' ')}", need)
    if names:
        return list(dict.fromkeys(names))
    return [name for name, metric in METRICS.items() if metric.usual and metric.needs <= available]
