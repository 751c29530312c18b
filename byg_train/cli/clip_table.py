"""Tables of the clips of a data set: which ones are used, at which size and rate, how much."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table

from ..config import DataConfig
from ..data import SHOWN
from ..data.items import Dataset, load_items
from ..data.media_kind import kind_of
from ..media.fit import Coverage, Size, buckets, nearest_bucket
from ..media.formats import CLIPS
from ..progress import CONSOLE, Progress

if TYPE_CHECKING:
    from ..media.reader import Facts


class Like(NamedTuple):
    """The properties that the clips of one row share."""

    size: Size
    bucket: Size
    fps: float


def load_shown(config: DataConfig, multiple: int) -> Dataset:
    """Load items as `load_items` does; for clips, show progress and the tables."""
    if kind_of(config) is not CLIPS:
        return load_items(config, multiple)
    with Progress(1, "checking clips") as progress:
        data = load_items(config, multiple, progress.follow)
    CONSOLE.print(clip_tables(data, config, multiple))
    return data


def clip_tables(data: Dataset, config: DataConfig, multiple: int) -> Group:
    """Tables of what is used, and of what is left out and why."""
    items = [*data.train, *data.test]
    taken: defaultdict[Path, set[int]] = defaultdict(set)
    for item in items:
        taken[item.path].add(item.segment.start)
    choice = buckets(config.resolution, multiple, config.max_aspect if config.buckets else 1.0)
    groups: defaultdict[Like, list[Path]] = defaultdict(list)
    for path in taken:
        facts = data.facts[path]
        bucket = nearest_bucket(facts.width, facts.height, choice)
        fps = round(facts.clip.fps, 2)
        groups[Like(Size(facts.width, facts.height), bucket, fps)].append(path)
    parts = [_used(groups, data.facts, taken, config)]
    if data.problems:
        parts.append(_left_out(data))
    return Group(*parts)


def _used(
    groups: dict[Like, list[Path]],
    facts: dict[Path, Facts],
    taken: dict[Path, set[int]],
    config: DataConfig,
) -> Table:
    seconds = config.frames / config.fps
    table = Table(
        "clips", "size", "trained at", "fps", "segments", Column("used", no_wrap=True), "mind",
        title=f"Clips: {config.frames} frames at {config.fps:g} fps ({seconds:.1f} s), "
        f"extraction {config.extraction}",
        title_justify="left",
    )  # fmt: skip
    for like, paths in sorted(groups.items(), key=lambda group: -len(group[1])):
        segments = sum(len(taken[path]) for path in paths)
        length = sum(float(facts[path].clip.duration) for path in paths)
        notes = Counter(note for path in paths for note in _notes(facts[path], like, config))
        table.add_row(
            str(len(paths)),
            f"{like.size.width}x{like.size.height}",
            f"{like.bucket.width}x{like.bucket.height}",
            f"{like.fps:g}",
            str(segments),
            f"{_time(segments * seconds)} of {_time(length)}",
            "; ".join(n if c == len(paths) else f"{c}: {n}" for n, c in notes.items()),
        )
    return table


def _notes(facts: Facts, like: Like, config: DataConfig) -> list[str]:
    """Notes on how a clip will be changed, or should be changed first."""
    clip = facts.clip
    covered = Coverage.of(facts.width, facts.height, like.bucket)
    notes = {
        "variable rate, by its timestamps": clip.variable,
        f"HDR ({clip.transfer.upper()}), brought to SDR": clip.transfer != "sdr",
        "interlaced: comb-like edges; deinterlace it before": clip.interlaced,
        f"slower than {config.fps:g} fps: frames repeat": clip.fps < 0.9 * config.fps,
        f"enlarged {covered.scale:.1f} times": covered.enlarged,
        f"cropped to {covered.seen:.0%}": covered.cropped,
        "cut off a key frame: begins behind what cannot be decoded": clip.lost_start > 0,
    }
    return [note for note, holds in notes.items() if holds]


def _left_out(data: Dataset) -> Table:
    table = Table(
        "left out", "found", "wanted",
        title=f"What cannot be used: {len(data.problems)}",
        title_justify="left",
    )  # fmt: skip
    for problem in data.problems[:SHOWN]:
        table.add_row(*map(escape, problem[:3]))
    if len(data.problems) > SHOWN:
        table.caption = f"and {len(data.problems) - SHOWN} more, all in dropped.txt"
    return table


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
