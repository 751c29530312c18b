"""What is to be edited: a clip, or a folder of frames, as upright RGB frames at a constant rate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np

from . import MediaError, SourceError
from .clips import ClipFacts, frames, probe
from .fit import Size
from .formats import PICTURES
from .reader import read_picture
from .writer import Sound

# The rates of cameras and of the cinema.
RATES = [Fraction(n) for n in range(1, 241)]
RATES += [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120, 240)]
# Seconds by which timestamps of milliseconds, and a rate typed as 23.976, may be off.
ROUNDED, TYPED = Fraction(2, 1000), Fraction(1, 1000)
HALF = Fraction(1, 2)


@dataclass(frozen=True)
class SourceClip:
    """A clip, or a part of it.

    A variable rate is brought to its average, at which there are as many frames: each is the one
    that is nearest in time.
    """

    path: Path
    size: Size
    fps: Fraction
    count: int
    start: int = 0  # the first frame of the part, counted in the clip's file
    pictures: tuple[Path, ...] = ()  # of a folder of frames, in order
    sound: Sound | None = None
    notes: tuple[str, ...] = ()  # what a person may not expect, behind the clip's name

    def frames(self) -> Iterator[np.ndarray]:
        """Decode `count` frames (H, W, 3), uint8, upright; SourceError for a broken one."""
        if self.pictures:
            yield from (_pixels(path, self.size) for path in self.pictures)
            return
        try:
            yield from frames(self.path, self.fps, self.start, self.count, whole=False)
        except MediaError as error:
            raise SourceError(f"{self.path} cannot be used: {error}") from None

    @property
    def names(self) -> list[str]:
        """The names of result frames as PNGs: those of a folder's pictures, or numbers."""
        if self.pictures:
            return [f"{path.stem}.png" for path in self.pictures]
        return [f"frame_{self.start + i + 1:05d}.png" for i in range(self.count)]

    @property
    def seconds(self) -> float:
        """The length of the clip, or of the part."""
        return float(self.count / self.fps)

    def part(self, start: float | None, seconds: float | None) -> SourceClip:
        """The frames from `start` on, for so many seconds; SourceError where there are none."""
        if start is None and seconds is None:
            return self
        first = floor(Fraction(start or 0) * self.fps + HALF)
        if first >= self.count:
            raise SourceError(
                f"{self.path} is {self.seconds:.2f} s long, the part would begin at {start} s"
            )
        left = self.count - first
        wanted = left if seconds is None else max(1, floor(Fraction(seconds) * self.fps + HALF))
        count = min(left, wanted)
        ends = None if count == left else Fraction(first + count) / self.fps
        sound = self.sound and self.sound.part(Fraction(first) / self.fps, ends)
        pictures = self.pictures[first : first + count]
        return replace(self, start=first, count=count, pictures=pictures, sound=sound)


def open_source_clip(path: Path, fps: float | None, usual: float) -> SourceClip:
    """Look at a clip's file, or at a folder of frames; SourceError says why it cannot be used.

    Args:
        path: a file of any container and codec, or a folder of pictures.
        fps: of a folder; None: `usual`. A file has a rate of its own.
    """
    if fps is not None and not path.is_dir():
        raise SourceError(f"{path} has a rate of its own; only a folder of frames is given one")
    if path.is_dir():
        return _folder(path, _typed(fps or usual))
    try:
        facts = probe(path, whole=False)
    except MediaError as error:
        raise SourceError(f"{path} cannot be used: {error}") from None
    return SourceClip(
        path,
        Size(facts.width, facts.height),
        _rate(facts),
        facts.frames,
        sound=Sound(path, zero=facts.begins) if facts.audio else None,
        notes=tuple(_notes(facts)),
    )


def _notes(facts: ClipFacts) -> Iterator[str]:
    if facts.lost_start:
        yield (
            f"was cut off a key frame: its first {facts.lost_start} frames cannot be decoded, and "
            "the edit begins behind them"
        )
    if facts.lost_end:
        yield (
            f"is damaged or lost its end: the edit has the {facts.frames} frames that can be "
            "decoded"
        )
    if facts.variable:
        yield f"has a variable frame rate: the result has its average, {facts.fps:.2f} a second"
    if facts.transfer != "sdr":
        yield f"is HDR ({facts.transfer.upper()}): the edit is in SDR"
    elif facts.depth > 8:
        yield f"has {facts.depth} bits per channel: the edit has 8"
    if facts.interlaced:
        yield "is interlaced: its comb edges are edited too; deinterlace it before"


def _rate(facts: ClipFacts) -> Fraction:
    """The clip's rate; the one that it names, or the nearest usual one, if it may well be that."""
    rate = facts.frames / facts.duration
    for known in (facts.declared, _usual(rate)):
        if known and abs(facts.frames / known - facts.duration) <= ROUNDED:
            return known
    return rate.limit_denominator(1001)


def _typed(fps: float) -> Fraction:
    rate, known = Fraction(fps).limit_denominator(1001), _usual(Fraction(fps))
    return known if abs(known - rate) <= TYPED else rate


def _usual(rate: Fraction) -> Fraction:
    return min(RATES, key=lambda known: abs(known - rate))


def _folder(path: Path, fps: Fraction) -> SourceClip:
    """Pictures of one size, in the order of the numbers in their names."""
    files = [p for p in path.iterdir() if PICTURES.holds(p)]
    if not files:
        raise SourceError(f"{path} holds no pictures; wanted a clip, or a folder of frames")
    # frame_2 before frame_10.
    numbers = re.compile(r"(\D*)(\d*)")
    pictures = sorted(
        files, key=lambda p: [(text, int(n or 0)) for text, n in numbers.findall(p.stem)]
    )
    stems = [p.stem for p in pictures]
    if twice := next((s for s in stems if stems.count(s) > 1), None):
        raise SourceError(f"{path} holds {twice!r} twice; wanted one picture for each frame")
    height, width, _ = _pixels(pictures[0], None).shape
    return SourceClip(path, Size(width, height), fps, len(pictures), pictures=tuple(pictures))


def _pixels(path: Path, size: Size | None) -> np.ndarray:
    """A frame (H, W, 3), uint8, of the size of the others."""
    try:
        frame = read_picture(path)
    except MediaError as error:
        raise SourceError(f"{path} cannot be used: {error}") from None
    if size is not None and frame.size != size:
        wide, high = frame.size
        raise SourceError(
            f"{path} is {wide} x {high} pixels, the frames before it {size.width} x "
            f"{size.height}; wanted frames of one size"
        )
    return np.asarray(frame)
