"""Clips for tests, written by PyAV: a square that moves over a ground that grows brighter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HERTZ = 48_000


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
    clip: np.ndarray,
    rate: Fraction | int = 16,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    turned: int = 0,
    sound: str | None = None,
    hdr: bool = False,
) -> Path:
    """A file of a clip.

    Args:
        times: of the frames, in milliseconds, for a variable rate.
        turned: degrees by which players turn it.
        sound: codec of a sound that is as long as the clip.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = pixels
        if turned:
            stream.set_display_rotation(turned)
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if hdr:  # BT.2020, PQ
            coder = stream.codec_context
            coder.color_primaries, coder.color_trc, coder.colorspace = 9, 16, 9
        track = out.add_stream(sound, rate=HERTZ, layout="stereo") if sound else None
        for i, array in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            if times:
                frame.pts = times[i]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if track:
            seconds = len(clip) / rate if times is None else times[-1] / 1000
            heard = av.AudioFrame.from_ndarray(tone(float(seconds)), "fltp", "stereo")
            heard.sample_rate, heard.pts = HERTZ, 0
            out.mux(track.encode(heard))
            out.mux(track.encode())
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
