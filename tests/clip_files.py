"""Clips of every kind for the tests, made with PyAV; every frame shows its number."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# Levels between one digit and the next, of which there are BASE; codecs are off by one or two.
STEP, BASE = 5, 50
MILLISECOND = Fraction(1, 1000)
# H.273: PQ, and the colours of BT.2020.
PQ, BT2020 = 16, 9


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


def clip(
    path: Path,
    frames: int = 24,
    *,
    rate: int = 24,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] | None = None,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    aspect: Fraction | None = None,
    sound: bool = False,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
    **options: str,
) -> Path:
    """Write a clip.

    Args:
        times: of the frames in milliseconds, for a variable rate.
        rotation: degrees anticlockwise that a player turns the stored picture by.
        aspect: of a pixel, width by height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.gop_size = 12
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        if times:
            stream.codec_context.time_base = MILLISECOND
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        heard = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(i, size), "rgb24")
            if times:
                frame.pts, frame.time_base = times[i], MILLISECOND
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if heard:
            beep = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            beep.sample_rate = 8000
            out.mux(heard.encode(beep))
            out.mux(heard.encode())
    return path


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
