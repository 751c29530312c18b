"""Clips of every container and codec as upright 8-bit RGB frames at any rate.

A clip is never in memory: frames are decoded one after the other. Frame k at a rate of `fps` is the
clip's frame nearest to k / fps seconds behind the first; timestamps count, not frame numbers, so a
variable rate comes out right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import MediaError
from .rgb import FrameConverter, Transfer, expect_tone_mapping, transfer_of, upright_size

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

# Seconds from which on a start is sought and not decoded up to.
SEEK = 10
# Decoders keep a frame or two for each of their threads.
THREADS = 4
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

    @property
    def fps(self) -> float:
        """The average rate."""
        return float(self.frames / self.duration)

    def frames_at(self, fps: float) -> int:
        """How many frames `frames(path, fps)` gives."""
        return _count(self.duration, Fraction(fps))


def probe(path: Path) -> ClipFacts:
    """Read all timestamps and decode the first frame; MediaError for what is no clip."""
    with _opened(path) as (container, stream):
        times, tail = _timestamps(container, stream)
        audio = bool(container.streams.audio)
    with _opened(path) as (container, stream):
        frame = _first(_decoded(container, stream)).frame
        width, height = upright_size(frame, stream)
        transfer = transfer_of(stream)
        declared = stream.average_rate  # of a closed file it is any number
    if len(times) == 1:
        raise MediaError("it has 1 frame: a picture, not a clip")
    duration = times[-1] - times[0] + tail
    if transfer != "sdr":
        expect_tone_mapping()
    gaps = [after - now for now, after in pairwise(times)]
    return ClipFacts(
        width=width,
        height=height,
        frames=len(times),
        duration=duration,
        declared=declared and Fraction(declared),
        variable=max(gaps) - min(gaps) > UNEVEN * duration / len(times),
        audio=audio,
        depth=max(component.bits for component in frame.format.components),
        transfer=transfer,
        interlaced=bool(frame.interlaced_frame),
    )


def frames(
    path: Path, fps: float | Fraction | None = None, start: int = 0, count: int | None = None
) -> Iterator[np.ndarray]:
    """Upright RGB frames (H, W, 3), uint8; one that is shown twice comes as the same array.

    Args:
        path: the clip.
        fps: resampled to this rate, nearest in time; None: every frame as it comes.
        start: the first one wanted, counted at the rate asked for.
        count: how many; None: all to the end. MediaError if there are fewer.
    """
    with _opened(path) as (container, stream):
        convert = FrameConverter(stream)
        shown, array = None, None
        for frame in _chosen(container, stream, fps and Fraction(fps), start, count):
            if frame is not shown:
                shown, array = frame, convert(frame)
            yield array


def verify(path: Path, fps: float, start: int, count: int) -> None:
    """Decode what `frames` would give, to prove that it is whole; raises MediaError."""
    with _opened(path) as (container, stream):
        for _ in _chosen(container, stream, Fraction(fps), start, count):
            pass


def moments(path: Path, facts: ClipFacts, number: int) -> list[np.ndarray]:
    """Frames (H, W, 3) spread evenly over a clip; of a long one little else is decoded."""
    spacing = facts.duration / (number + 1)
    return list(frames_at(path, [spacing * i for i in range(1, number + 1)]))


def frames_at(path: Path, times: Iterable[Fraction]) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) nearest to some times, in ascending seconds behind the first frame."""
    with _opened(path) as (container, stream):
        convert = FrameConverter(stream)
        decoded = _decoded(container, stream)
        now = _first(decoded)
        zero = now.when
        after = next(decoded, None)
        for when in times:
            if when + zero - now.when > SEEK:
                decoded = _sought(container, stream, when + zero)
                now, after = next(decoded), next(decoded, None)
            while after is not None and when + zero >= (now.when + after.when) / 2:
                now, after = after, next(decoded, None)
            yield convert(now.frame)


# ---------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its video stream; every error of the decoder as a MediaError."""
    import av

    try:
        with av.open(str(path)) as container:
            shown = [s for s in container.streams.video if not _is_cover(s)]
            if not shown:
                raise MediaError("it has no video stream")
            stream = shown[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
            yield container, stream
    except FileNotFoundError:
        raise MediaError("there is no such file") from None
    except (av.FFmpegError, EOFError) as error:
        raise MediaError(f"it cannot be read: {getattr(error, 'strerror', error)}") from error


def _is_cover(stream: VideoStream) -> bool:
    """The picture of a record, which players keep as a video of one frame."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _timestamps(container: InputContainer, stream: VideoStream) -> tuple[list[Fraction], Fraction]:
    """When every frame is shown, and for how long the last one is, in seconds; nothing is decoded.

    Packets that have no time of their own count at the stream's rate.
    """
    times, last, tail = [], None, Fraction(0)
    rate = _nominal_rate(stream)
    for number, packet in enumerate(p for p in container.demux(stream) if p.size):
        if packet.is_corrupt:
            raise MediaError(f"it is damaged or ends early, at frame {number + 1}")
        if packet.is_discard:
            continue
        when = packet.pts if packet.pts is not None else packet.dts
        times.append(number / rate if when is None else when * stream.time_base)
        if last is None or times[-1] > last:
            last, tail = times[-1], (packet.duration or 0) * stream.time_base
    if not times:
        raise MediaError("it has no frames")
    times = sorted(set(times))
    if not tail:
        tail = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / rate
    return times, tail


def _nominal_rate(stream: VideoStream) -> Fraction:
    return Fraction(stream.average_rate or stream.base_rate or 25)


class _Timed(NamedTuple):
    """A decoded frame, when it is shown and for how long, in seconds."""

    frame: VideoFrame
    when: Fraction
    lasts: Fraction  # 0: unknown


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[_Timed]:
    """Frames of one size in the order of their times, each time once."""
    before = size = None
    for number, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise MediaError(f"frame {number + 1} is damaged")
        size = size or (frame.width, frame.height)
        if size != (frame.width, frame.height):
            was, now = (" x ".join(map(str, s)) for s in (size, (frame.width, frame.height)))
            raise MediaError(f"its size changes from {was} to {now} pixels")
        base = frame.time_base or stream.time_base
        when = number / _nominal_rate(stream) if frame.pts is None else frame.pts * base
        if before is None or when > before:
            yield _Timed(frame, when, (frame.duration or 0) * base)
            before = when


def _first(decoded: Iterator[_Timed]) -> _Timed:
    first = next(decoded, None)
    if first is None:
        raise MediaError("no frame of it can be decoded")
    return first


# ---------------------------------------------------------------- choosing


def _chosen(
    container: InputContainer,
    stream: VideoStream,
    fps: Fraction | None,
    start: int,
    count: int | None,
) -> Iterator[VideoFrame]:
    """`count` frames from `start` on; MediaError if there are fewer."""
    decoded = _decoded(container, stream)
    first = _first(decoded)
    decoded = chain([first], decoded)
    if fps is None:
        chosen = islice((timed.frame for timed in decoded), start, None)
    else:
        if start / fps > SEEK:
            decoded = _sought(container, stream, first.when + start / fps)
        chosen = _resampled(decoded, first.when, fps, start)
    given = 0
    for frame in islice(chosen, count):
        given += 1
        yield frame
    if count is not None and given < count:
        raise MediaError(f"it ends after {start + given} frames; wanted {start + count}")


def _sought(container: InputContainer, stream: VideoStream, when: Fraction) -> Iterator[_Timed]:
    """The frames from one at or before `when`; after a seek that missed, those from the start."""
    for target in (when, Fraction(0)):
        container.seek(floor(target / stream.time_base), stream=stream, backward=True)
        decoded = _decoded(container, stream)
        found = next(decoded, None)
        if found is not None and (found.when <= when or target == 0):
            return chain([found], decoded)
    raise MediaError(f"it cannot be read from {float(when):.1f} s on")


def _resampled(
    decoded: Iterator[_Timed], zero: Fraction, fps: Fraction, start: int
) -> Iterator[VideoFrame]:
    """For each of the times zero + k / fps the nearest frame; of two equally near, the later."""
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
