"""Clips of every container and codec as upright 8-bit RGB frames at any rate.

A clip is never in memory: frames are decoded one after the other. Frame k at a rate of `fps` is the
clip's frame nearest to k / fps seconds behind the first; timestamps count, not frame numbers, so a
variable rate comes out right.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice, pairwise
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from . import MediaError, url
from .animation import Animation, is_animation, open_animation
from .rgb import Transfer, expect_tone_mapping
from .video import Timed, Times, Video, is_still

log = logging.getLogger("byg_train")

# Seconds from which on a start is sought and not decoded up to.
SEEK = 10
# Seconds at the end that are decoded to see where a clip that may have lost its end ends.
TAIL = 2
HALF = Fraction(1, 2)
# A gap between two frames that differs by this share from the average: the rate is variable.
UNEVEN = 0.25


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What a look at a clip's file tells."""

    width: int  # pixels, upright, of square pixels
    height: int
    frames: int
    duration: Fraction  # seconds, up to the end of the last frame
    declared: Fraction | None = None  # the rate that the file itself names
    variable: bool  # the frame rate
    audio: bool
    depth: int  # bits per channel
    transfer: Transfer
    interlaced: bool
    # What is not there any more: frames in front, which lack their key frame, and at the end.
    lost_start: int = 0
    lost_end: int = 0
    # When the first frame is shown, by the file, if others were lost.
    begins: Fraction | None = None

    @property
    def fps(self) -> float:
        """The average rate."""
        return float(self.frames / self.duration)

    def frames_at(self, fps: float) -> int:
        """Return how many frames `frames(path, fps)` gives."""
        return _count(self.duration, Fraction(fps))


def probe(path: Path, *, whole: bool = True) -> ClipFacts:
    """Read all timestamps and decode the first frame; MediaError for what is no clip.

    A clip that was cut off a key frame begins with the first frame that can be decoded. `whole`:
    one that is damaged or lost its end is refused; or else it ends with the last frame that can be
    decoded, and the nearest ones stand for those within that cannot.
    """
    with _opened(path, whole=whole) as clip:
        found = clip.times()
    with _opened(path, whole=whole) as clip:
        first = _first(clip.decoded())
        look = clip.look(first.frame)
        times = _decodable(found, first)
        if not whole:
            end = _last(clip, times)
            times = [when for when in times if when <= end]
    if len(times) == 1:
        raise MediaError("it has 1 frame: a picture, not a clip")
    duration = times[-1] - times[0] + found.tail
    if look.transfer != "sdr":
        expect_tone_mapping()
    gaps = [after - now for now, after in pairwise(times)]
    lost_start = found.undecodable + sum(when < times[0] for when in found.shown)
    return ClipFacts(
        **look._asdict(),
        frames=len(times),
        duration=duration,
        variable=max(gaps) - min(gaps) > UNEVEN * duration / len(times),
        lost_start=lost_start,
        lost_end=found.missing + sum(when > times[-1] for when in found.shown),
        begins=times[0] if lost_start else None,
    )


def frames(
    path: Path,
    fps: float | Fraction | None = None,
    start: int = 0,
    count: int | None = None,
    *,
    whole: bool = True,
) -> Iterator[np.ndarray]:
    """Upright RGB frames (H, W, 3), uint8; one that is shown twice comes as the same array.

    Args:
        path: the clip.
        fps: resampled to this rate, nearest in time; None: every frame as it comes.
        start: the first one wanted, counted at the rate asked for.
        count: how many; None: all to the end. MediaError if there are fewer.
        whole: as in `probe`.
    """
    with _opened(path, whole=whole) as clip:
        shown, array = None, None
        for frame in _chosen(clip, fps and Fraction(fps), start, count):
            if frame is not shown:
                shown, array = frame, clip.convert(frame)
            yield array
        if clip.damaged:
            _warn_of_damage(path)


def still(path: Path) -> np.ndarray:
    """The picture (H, W, 3) in a file of a single one, such as DPX; MediaError for any other."""
    import av

    try:
        with av.open(url(path)) as container:
            if not is_still(container):
                raise MediaError("not a picture")
            clip = Video(container, whole=True)
            return clip.convert(_first(clip.decoded()).frame)
    except (av.FFmpegError, EOFError):
        raise MediaError("not a picture") from None


def verify(path: Path, fps: float, start: int, count: int) -> None:
    """Decode what `frames` would give, to prove that it is whole; raises MediaError."""
    with _opened(path) as clip:
        for _ in _chosen(clip, Fraction(fps), start, count):
            pass


def moments(path: Path, facts: ClipFacts, number: int) -> list[np.ndarray]:
    """Frames (H, W, 3) spread evenly over a clip; of a long one little else is decoded."""
    spacing = facts.duration / (number + 1)
    return list(frames_at(path, [spacing * i for i in range(1, number + 1)]))


def frames_at(path: Path, times: Iterable[Fraction]) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) nearest to some times, in ascending seconds behind the first frame."""
    with _opened(path) as clip:
        decoded = clip.decoded()
        now = _first(decoded)
        zero = now.when
        after = next(decoded, None)
        for when in times:
            if when + zero - now.when > SEEK:
                decoded = clip.sought(when + zero)
                now, after = next(decoded), next(decoded, None)
            while after is not None and when + zero >= (now.when + after.when) / 2:
                now, after = after, next(decoded, None)
            yield clip.convert(now.frame)


# ---------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path, *, whole: bool = True) -> Iterator[Video | Animation]:
    """An open file; every error of a decoder as a MediaError. `whole` as in `probe`."""
    import av

    if is_animation(path):
        with open_animation(path) as clip:
            yield clip
        return
    try:
        with av.open(url(path)) as container:
            yield Video(container, whole=whole)
    except FileNotFoundError:
        raise MediaError("there is no such file") from None
    except (av.FFmpegError, EOFError) as error:
        raise MediaError(f"it cannot be read: {getattr(error, 'strerror', error)}") from error


def _first(decoded: Iterator[Timed]) -> Timed:
    first = next(decoded, None)
    if first is None:
        raise MediaError("no frame of it can be decoded")
    return first


def _decodable(found: Times, first: Timed) -> list[Fraction]:
    """The times from the first decoded frame on; one that is not among them tells nothing."""
    if first.when not in found.shown:
        return found.shown
    return [when for when in found.shown if when >= first.when]


def _last(clip: Video | Animation, times: list[Fraction]) -> Fraction:
    """Return when the last frame that can be decoded is shown; only the end is decoded."""
    last = times[0]
    for timed in clip.sought(max(times[0], times[-1] - TAIL)):
        last = timed.when
    return last


@lru_cache(1000)
def _warn_of_damage(path: Path) -> None:
    """Warn once for each file."""
    log.warning(
        "%s is damaged within: where nothing can be decoded, the nearest frame stands", path
    )


# ---------------------------------------------------------------- choosing


def _chosen(
    clip: Video | Animation, fps: Fraction | None, start: int, count: int | None
) -> Iterator[Any]:
    """`count` frames from `start` on; MediaError if there are fewer."""
    decoded = clip.decoded()
    first = _first(decoded)
    decoded = chain([first], decoded)
    if fps is None:
        chosen = islice((timed.frame for timed in decoded), start, None)
    else:
        if start / fps > SEEK:
            decoded = clip.sought(first.when + start / fps)
        chosen = _resampled(decoded, first.when, fps, start)
    given = 0
    for frame in islice(chosen, count):
        given += 1
        yield frame
    if count is not None and given < count:
        raise MediaError(f"it ends after {start + given} frames; wanted {start + count}")


def _resampled(
    decoded: Iterator[Timed], zero: Fraction, fps: Fraction, start: int
) -> Iterator[Any]:
    """Yield the frames nearest to the times zero + k / fps; of two equally near ones, the later."""
    k, gap = start, 1 / fps
    now = next(decoded)
    for after in decoded:
        gap, middle = after.when - now.when, (now.when + after.when) / 2
        while zero + k / fps < middle:
            yield now.frame
            k += 1
        now = after
    for _ in range(k, _count(now.when + (now.lasts or gap) - zero, fps)):
        yield now.frame


def _count(duration: Fraction, fps: Fraction) -> int:
    return max(1, floor(duration * fps + HALF))
