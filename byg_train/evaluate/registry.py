"""The metrics by name. A new metric is one entry in METRICS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..media.formats import CLIPS
from . import imgedit, viescore
from .aesthetic import aesthetic, read_head
from .clip_direction import clip_direction
from .dino import dino_similarity
from .dynamic_degree import dynamic_degree
from .flicker import temporal_flicker
from .judge import Ask
from .lpips import VGG, load_heads, load_vgg, lpips
from .motion_fidelity import motion_fidelity
from .networks import Networks, UnavailableError, reachable, usable
from .psnr import psnr
from .retrieval import ranks, recall
from .scoring import Case, JudgeMeasure, Measure, Values
from .ssim import ssim
from .tasks import Task, read_clip
from .trackers import load_cotracker, load_raft

Truths = Mapping[str, Path]  # name of a task -> its true target


@dataclass(frozen=True)
class Metric:
    """A metric: its columns, what it needs, and how to compute it for one edit."""

    columns: tuple[str, ...]
    about: str
    needs: frozenset[str]  # inputs, as `available_inputs` names them
    build: Callable[[Networks, Truths], Measure] | None = None
    build_judge: Callable[[Ask], JudgeMeasure] | None = None  # in place of `build`
    usual: bool = False  # taken when no metrics are named and all needs are met


def _metric(columns: str, about: str, needs: str = "", **how: Any) -> Metric:
    return Metric(tuple(columns.split()), about, frozenset(needs.split()), **how)


# ---------------------------------------------------------------- one by one


def _clip(networks: Networks, truths: Truths) -> Measure:
    clip = networks.loaded_clip

    def measure(case: Case) -> Values:
        captions = case.task.src_caption, case.task.tgt_caption
        if not all(captions):
            return {"clip_dir": None}
        frames = clip.pictures(case.source.frames), clip.pictures(case.edited)
        return {"clip_dir": clip_direction(*frames, *clip.texts(captions))}

    return measure


def _dino(networks: Networks, truths: Truths) -> Measure:
    embed = networks.loaded_dino
    return lambda case: {"dino": dino_similarity(embed(case.source.frames), embed(case.edited))}


def _motion(networks: Networks, truths: Truths) -> Measure:
    with reachable("cotracker", networks.cotracker):
        track = load_cotracker(networks.cotracker, networks.device)

    def measure(case: Case) -> Values:
        tracks = track(case.source.frames), track(case.edited)
        fidelity = motion_fidelity(*tracks, networks.motion)
        return {"motion": fidelity.score, "still": fidelity.still_edited / len(tracks[1])}

    return measure


def _dynamic(networks: Networks, truths: Truths) -> Measure:
    weights = "torchvision's raft_large"
    with (
        usable("raft", networks.raft, f"{weights} as safetensors")
        if networks.raft
        else reachable("raft", weights)
    ):
        flow = load_raft(networks.raft, networks.device)
    return lambda case: {"dynamic": dynamic_degree(case.edited, case.source.fps, flow)}


def _aesthetic(networks: Networks, truths: Truths) -> Measure:
    clip = networks.loaded_clip
    with usable("aesthetic_head", networks.aesthetic_head, "LAION's head for this CLIP"):
        head = read_head(networks.aesthetic_head)
        aesthetic(np.zeros((1, clip.model.config.projection_dim)), head)  # checks the size
    return lambda case: {"aesthetic": aesthetic(clip.pictures_vbench(case.edited), head)}


def _lpips(networks: Networks, truths: Truths) -> Measure:
    with (
        usable("vgg", networks.vgg, f"model.safetensors of {VGG}")
        if networks.vgg
        else reachable("vgg", VGG)
    ):
        trunk, heads = load_vgg(networks.vgg), load_heads()
    return _to_truth(lambda edited, truth: {"lpips": lpips(edited, truth, trunk, heads)})


def _to_truth(compare: Callable[[np.ndarray, np.ndarray], Values]) -> Measure:
    """Compare the result with its true target, if it has one."""
    return lambda case: {} if case.truth is None else compare(case.edited, case.truth)


def _retrieval(networks: Networks, truths: Truths) -> Measure:
    """Compare the mean of the frames' features with those of all true targets."""
    embed, names = networks.loaded_dino, list(truths)
    gallery = np.stack([embed(read_clip(truths[name]).frames).mean(0) for name in names])

    def measure(case: Case) -> Values:
        if case.truth is None:
            return {}
        own = names.index(case.task.name)
        ordered = np.concatenate([gallery[own : own + 1], np.delete(gallery, own, 0)])
        place = ranks(embed(case.edited).mean(0)[None], ordered)
        return {f"recall@{k}": float(recall(place, k)[0]) for k in (1, 5)}

    return measure


def _viescore(ask: Ask) -> JudgeMeasure:
    async def measure(case: Case) -> Values:
        edited = case.source._replace(frames=case.edited).picture
        marks = await viescore.judge_edit(ask, case.source.picture, edited, case.task.instruction)
        names = {"SC": "semantic", "PQ": "quality"}
        return {c: getattr(marks, names.get(c, c)) for c in METRICS["viescore"].columns}

    return measure


def _imgedit(ask: Ask) -> JudgeMeasure:
    async def measure(case: Case) -> Values:
        edited = case.source._replace(frames=case.edited).picture
        words, kind = case.task.instruction, case.task.group
        return {"imgedit": await imgedit.judge_edit(ask, case.source.picture, edited, words, kind)}

    return measure


# ---------------------------------------------------------------- all of them


METRICS = {
    "clip": _metric(
        "clip_dir", "CLIP directional similarity: edit success", "captions",
        build=_clip, usual=True,
    ),
    "dino": _metric(
        "dino", "DINO similarity to the source, frame by frame", build=_dino, usual=True
    ),
    "motion": _metric(
        "motion still", "motion fidelity, share of points that stand still", "clips cotracker",
        build=_motion,
    ),
    "dynamic": _metric("dynamic", "VBench's dynamic degree", "clips", build=_dynamic),
    "aesthetic": _metric(
        "aesthetic", "VBench's aesthetic quality", "aesthetic_head", build=_aesthetic
    ),
    "flicker": _metric(
        "flicker", "VBench's temporal flickering", "clips", usual=True,
        build=lambda networks, truths: lambda case: {"flicker": temporal_flicker(case.edited)},
    ),
    "psnr": _metric(
        "psnr", "PSNR to the true target, dB", "truths", usual=True,
        build=lambda networks, truths: _to_truth(lambda e, t: {"psnr": psnr(e, t)}),
    ),
    "ssim": _metric(
        "ssim", "SSIM to the true target", "truths", usual=True,
        build=lambda networks, truths: _to_truth(lambda e, t: {"ssim": ssim(e, t)}),
    ),
    "lpips": _metric(
        "lpips", "LPIPS to the true target, lower is nearer", "truths", build=_lpips
    ),
    "retrieval": _metric(
        "recall@1 recall@5", "retrieval of the true target among all, by DINO", "truths",
        build=_retrieval, usual=True,
    ),
    "viescore": _metric(
        "success kept SC PQ overall", "VIEScore: marks of a judge, 0 to 10", "judge pictures",
        build_judge=_viescore, usual=True,
    ),
    "imgedit": _metric(
        "imgedit", "ImgEdit-Bench's mark, 1 to 5", "judge pictures groups", build_judge=_imgedit
    ),
}  # fmt: skip
LOWER_IS_BETTER = {"lpips"}


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
