"""Clips of every kind for the tests, made with PyAV; every frame shows its number."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

# Levels between one digit and the next, of which there are BASE; codecs are off by one or two.
STEP, BASE = 5, 50
MILLISECOND = Fraction(1, 1000)
# H.273: PQ, and the colours of BT.2020.
PQ, BT2020 = 16, 9
# Of a sound.
HERTZ = 48_000


def picture(i: int, size: tuple[int, int]) -> np.ndarray:
    """Frame i (H, W, 3): its digits as gray quarters on the right, red in the upper left corner."""
    width, height = size
    frame = np.full((height, width, 3), STEP * (i % BASE), np.uint8)
    frame[: height // 2, width // 2 :] = STEP * (i // BASE)
    frame[: height // 4, : width // 4] = (255, 0, 0)
    return frame


def number(frame: np.ndarray) -> int:
    """Which frame (H, W, 3) this is."""
    height, width, _ = frame.shape
    right = frame[:, 3 * width // 4 :]
    upper, lower = right[: height // 3], right[-height // 3 :]
    return BASE * round(float(upper.mean()) / STEP) + round(float(lower.mean()) / STEP)


def drawn(frames: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """(F, H, W, 3), uint8; each of the first 24 frames is known by its ground: see `numbers`."""
    width, height = size
    clip = np.empty((frames, height, width, 3), np.uint8)
    side = max(2, height // 4)
    for i, frame in enumerate(clip):
        frame[:] = 30 + 9 * (i % 24)
        x = i * (width - side) // max(1, frames - 1)
        frame[height // 3 : height // 3 + side, x : x + side] = (220, 200, 40)
    return clip


def write(
    path: Path,
    clip: Iterable[np.ndarray],
    rate: Fraction | int = 16,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    turned: int = 0,
    aspect: Fraction | None = None,
    sound: str | None = None,
    hdr: bool = False,
    key: int | None = None,
    encoder: dict[str, str] | None = None,
    form: str | None = None,
    **options: str,
) -> Path:
    """A file of frames (H, W, 3).

    Args:
        times: of the frames in milliseconds, for a variable rate.
        turned: degrees anticlockwise that a player turns the stored picture by.
        aspect: of a pixel, width by height.
        sound: codec of a sound that is as long as the clip.
        hdr: say that it is BT.2020 and PQ.
        key: frames from one key frame to the next.
        encoder: options of the encoder; those that follow are the container's.
        form: of the container, where the name does not tell.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = iter(clip)
    first = next(clip)
    with av.open(str(path), "w", format=form, options=options) as out:
        stream = out.add_stream(codec, rate=rate, options=encoder or {})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixels
        coder = stream.codec_context
        if key:
            stream.gop_size = key
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        if turned:
            stream.set_display_rotation(turned)
        if aspect:
            coder.sample_aspect_ratio = aspect
        if times:
            coder.time_base = MILLISECOND
        if hdr:
            coder.color_primaries, coder.color_trc, coder.colorspace = BT2020, PQ, BT2020
        track = out.add_stream(sound, rate=HERTZ, layout="stereo") if sound else None
        number = 0
        for number, array in enumerate(chain([first], clip), 1):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            if times:
                frame.pts, frame.time_base = times[number - 1], MILLISECOND
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if track:
            seconds = number / rate if times is None else times[-1] / 1000
            heard = av.AudioFrame.from_ndarray(tone(float(seconds)), "fltp", "stereo")
            heard.sample_rate, heard.pts = HERTZ, 0
            out.mux(track.encode(heard))
            out.mux(track.encode())
    return path


def clip(
    path: Path,
    frames: int = 24,
    *,
    rate: int = 24,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    sound: bool = False,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
    **options: Any,
) -> Path:
    """Write a clip of numbered frames, with a key frame every twelve; the rest as `write`."""
    drawn = (draw(i, size) for i in range(frames))
    heard = "aac" if sound else None
    return write(
        path, drawn, rate, codec=codec, pixels=pix_fmt, turned=rotation, sound=heard, key=12,
        **options,
    )  # fmt: skip


def hdr_clip(path: Path, frames: int = 12, size: tuple[int, int] = (64, 48)) -> Path:
    """A 10-bit clip in PQ, from black on the left to 10,000 nits on the right."""
    width, height = size
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=24, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        coder = stream.codec_context
        coder.color_trc, coder.color_range = PQ, 1
        coder.color_primaries = coder.colorspace = BT2020
        for _ in range(frames):
            ramp = np.linspace(64, 940, width).astype("<u2")
            planes = [
                np.tile(ramp, (height, 1)),
                *[np.full((height // 2, width // 2), 512, "<u2")] * 2,
            ]
            frame = av.VideoFrame(width, height, "yuv420p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
                rows[:, : values.shape[1]] = values
                plane.update(rows.tobytes())
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def uneven(frames: int, seed: int = 0) -> list[int]:
    """Times in milliseconds with gaps of 20, 40 and 100."""
    draw = random.Random(seed)
    times = [0]
    for _ in range(frames - 1):
        times.append(times[-1] + draw.choice([20, 40, 100]))
    return times


def damage(path: Path, start: float, share: float = 0.1) -> Path:
    """Overwrite a part of a file, both told as a share of its length."""
    data = bytearray(path.read_bytes())
    at, number = int(start * len(data)), int(share * len(data))
    data[at : at + number] = random.Random(0).randbytes(number)
    path.write_bytes(bytes(data))
    return path


def cut_short(path: Path, share: float) -> Path:
    """Leave out the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def told(path: Path, caption: str = "a red fox runs") -> Path:
    """The same path, with a caption beside it."""
    path.with_suffix(".txt").write_text(caption)
    return path


def tone(seconds: float) -> np.ndarray:
    """Two channels of a rising tone, (2, samples), float32."""
    t = np.arange(round(seconds * HERTZ)) / HERTZ
    wave = 0.5 * np.sin(2 * np.pi * (300 * t + 400 * t**2))
    return np.stack([wave, wave]).astype(np.float32)


def pictures(path: Path) -> np.ndarray:
    """All frames of a file, (F, H, W, 3)."""
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)])


def numbers(clip: Iterable[np.ndarray]) -> list[int]:
    """Which of `drawn`'s frames these are."""
    return [round((float(np.median(frame)) - 30) / 9) for frame in clip]


def heard(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of every packet of sound."""
    with av.open(str(path)) as clip:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in clip.demux(audio=0)
            if packet.size
        ]
