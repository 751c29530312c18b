"""The metrics by the names that the command line knows, each ready to measure one edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..data import DataError
from . import imgedit, viescore
from .aesthetic import aesthetic, read_head
from .clip_direction import clip_direction
from .dino import dino_similarity
from .dynamic_degree import dynamic_degree
from .flicker import temporal_flicker
from .judge import Ask
from .lpips import VGG, load_heads, load_vgg, lpips
from .models import CLIP, DINO, Clip, EmbedPictures, load_dino
from .motion_fidelity import Direction, motion_fidelity
from .psnr import psnr
from .retrieval import ranks, recall
from .scoring import Case, JudgeMeasure, Measure, Values
from .ssim import ssim
from .tasks import Task, read_clip
from .trackers import load_cotracker, load_raft


@dataclass(frozen=True)
class Metric:
    """What a metric is called, what it writes, and what it cannot do without."""

    columns: tuple[str, ...]
    about: str
    needs: frozenset[str] = frozenset()  # of: captions, truths, clips, pictures, judge, groups


def _metric(columns: str, about: str, needs: str = "") -> Metric:
    return Metric(tuple(columns.split()), about, frozenset(needs.split()))


METRICS = {
    "clip": _metric("clip_dir", "CLIP directional similarity, edit success", "captions"),
    "dino": _metric("dino", "DINO similarity to the source, frame by frame"),
    "motion": _metric(
        "motion still", "motion fidelity, share of points that stand still (--cotracker)", "clips"
    ),
    "dynamic": _metric("dynamic", "VBench's dynamic degree", "clips"),
    "aesthetic": _metric("aesthetic", "VBench's aesthetic quality (--aesthetic-head)"),
    "flicker": _metric("flicker", "VBench's temporal flickering", "clips"),
    "psnr": _metric("psnr", "to the true target, dB", "truths"),
    "ssim": _metric("ssim", "to the true target", "truths"),
    "lpips": _metric("lpips", "to the true target, lower is nearer", "truths"),
    "retrieval": _metric("recall@1 recall@5", "the true target among all, by DINO", "truths"),
    "viescore": _metric(
        "success kept SC PQ overall", "marks of a judge, 0 to 10 (--judge)", "judge pictures"
    ),
    "imgedit": _metric(
        "imgedit", "ImgEdit-Bench's mark, 1 to 5 (--judge)", "judge pictures groups"
    ),
}
LOWER_IS_BETTER = {"lpips"}


@dataclass(frozen=True)
class Networks:
    """Where the networks come from: hub ids, folders or files. Each is loaded when first used."""

    clip: str = CLIP
    dino: str = DINO
    vgg: Path | None = None
    aesthetic_head: Path | None = None
    cotracker: str | None = None
    raft: Path | None = None
    motion: Direction = "edit_to_src"
    device: str = "cpu"

    @cached_property
    def seeing(self) -> Clip:
        """CLIP."""
        with _reachable("clip", self.clip, "--clip"):
            return Clip(self.clip, self.device)

    @cached_property
    def dinos(self) -> EmbedPictures:
        """DINO."""
        with _reachable("dino", self.dino, "--dino"):
            return load_dino(self.dino, self.device)


@contextmanager
def _reachable(metric: str, name: str, option: str) -> Iterator[None]:
    """What a library says of a network that it cannot get, as a sentence of what to do."""
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise DataError(
            f"{metric} needs {name}, which cannot be had ({_first_line(error)}); where there is no "
            f"network, download it elsewhere and pass it with {option}, or leave {metric} out of "
            "--metrics"
        ) from None


@contextmanager
def _usable(option: str, file: Path, wanted: str) -> Iterator[None]:
    """The same of a file that somebody passed."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"{option} {file} cannot be used ({_first_line(error)}); wanted {wanted}"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def measures(names: Sequence[str], networks: Networks, truths: Mapping[str, Path]) -> list[Measure]:
    """The metrics that look for themselves; networks are loaded here, so nothing fails late."""
    made = {
        "clip": lambda: _clip(networks.seeing),
        "dino": lambda: _dino(networks.dinos),
        "motion": lambda: _motion(networks),
        "dynamic": lambda: _dynamic(networks),
        "aesthetic": lambda: _aesthetic(networks),
        "flicker": lambda: lambda case: {"flicker": temporal_flicker(case.edited)},
        "psnr": lambda: _against(lambda e, t: {"psnr": psnr(e, t)}),
        "ssim": lambda: _against(lambda e, t: {"ssim": ssim(e, t)}),
        "lpips": lambda: _lpips(networks),
        "retrieval": lambda: _retrieval(networks.dinos, truths),
    }
    return [made[name]() for name in names if name in made]


def judge_measures(names: Sequence[str], ask: Ask) -> list[JudgeMeasure]:
    """The metrics that ask a judge."""
    made = {"viescore": _viescore, "imgedit": _imgedit}
    return [made[name](ask) for name in names if name in made]


# ---------------------------------------------------------------- one by one


def _clip(clip: Clip) -> Measure:
    def measure(case: Case) -> Values:
        captions = case.task.src_caption, case.task.tgt_caption
        if not all(captions):
            return {"clip_dir": None}
        frames = clip.pictures(case.source.frames), clip.pictures(case.edited)
        return {"clip_dir": clip_direction(*frames, *clip.texts(captions))}

    return measure


def _dino(embed: EmbedPictures) -> Measure:
    def measure(case: Case) -> Values:
        return {"dino": dino_similarity(embed(case.source.frames), embed(case.edited))}

    return measure


def _motion(networks: Networks) -> Measure:
    if networks.cotracker is None:
        raise DataError(
            "motion needs a point tracker: pass --cotracker with a checkout of "
            "facebookresearch/co-tracker, or `hub` to fetch it (its weights are CC-BY-NC: for "
            "non-commercial use)"
        )
    with _reachable("motion", networks.cotracker, "--cotracker"):
        track = load_cotracker(networks.cotracker, networks.device)

    def measure(case: Case) -> Values:
        tracks = track(case.source.frames), track(case.edited)
        found = motion_fidelity(*tracks, networks.motion)
        return {"motion": found.score, "still": found.still_edited / len(tracks[1])}

    return measure


def _dynamic(networks: Networks) -> Measure:
    wanted = "torchvision's raft_large"
    with (
        _usable("--raft", networks.raft, f"{wanted} as safetensors")
        if networks.raft
        else _reachable("dynamic", wanted, "--raft")
    ):
        flow = load_raft(networks.raft, networks.device)
    return lambda case: {"dynamic": dynamic_degree(case.edited, case.source.fps, flow)}


def _aesthetic(networks: Networks) -> Measure:
    if networks.aesthetic_head is None:
        raise DataError(f"aesthetic needs --aesthetic-head FILE. {read_head.__doc__.strip()}")
    clip = networks.seeing
    with _usable("--aesthetic-head", networks.aesthetic_head, "LAION's head for this CLIP"):
        head = read_head(networks.aesthetic_head)
        aesthetic(np.zeros((1, clip.model.config.projection_dim)), head)  # whether it fits
    return lambda case: {"aesthetic": aesthetic(clip.pictures_vbench(case.edited), head)}


def _against(compare: Callable[[np.ndarray, np.ndarray], Values]) -> Measure:
    return lambda case: {} if case.truth is None else compare(case.edited, case.truth)


def _lpips(networks: Networks) -> Measure:
    with (
        _usable("--vgg", networks.vgg, f"model.safetensors of {VGG}")
        if networks.vgg
        else _reachable("lpips", VGG, "--vgg")
    ):
        trunk, heads = load_vgg(networks.vgg), load_heads()
    return _against(lambda e, t: {"lpips": lpips(e, t, trunk, heads)})


def _retrieval(embed: EmbedPictures, truths: Mapping[str, Path]) -> Measure:
    """Clips by the mean of their frames' features."""
    names = list(truths)
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


# ---------------------------------------------------------------- what fits


def choose(asked: Sequence[str], tasks: Sequence[Task], given: frozenset[str]) -> list[str]:
    """The metrics to take: those asked for, or all that need nothing more than is there.

    Args:
        asked: names; empty: all that fit and need no network but CLIP, DINO and the judge.
        tasks: what is to be measured.
        given: of `captions truths clips pictures judge groups` what there is.
    """
    for name in asked:
        if name not in METRICS:
            raise DataError(f"--metrics {name}: unknown; known are {', '.join(METRICS)}")
        for lack in sorted(METRICS[name].needs - given):
            raise DataError(f"--metrics {name} needs {LACKING[lack]}")
    if asked:
        return list(dict.fromkeys(asked))
    usual = ("clip", "dino", "flicker", "psnr", "ssim", "retrieval", "viescore")
    return [name for name in usual if METRICS[name].needs <= given]


LACKING = {
    "captions": "src_caption and tgt_caption in the sources' metadata.jsonl",
    "truths": "--truths, the folder of true targets",
    "clips": "clips, and not all of these tasks have one",
    "pictures": "pictures, and not all of these tasks have one",
    "judge": "--judge MODEL (with --endpoint), or --vlm",
    "groups": f"tasks whose group is one of ImgEdit-Bench's types: {', '.join(imgedit.TYPES)}",
}
