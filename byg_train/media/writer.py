"""The one writer: pictures, clips and folders of frames, each atomically."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ..files import atomic
from . import url
from .sound import Sound, sound_packets

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer

# H.273: BT.709 and its video range, which players assume for sizes of today.
BT709, VIDEO_RANGE = 1, 1


class Codec(NamedTuple):
    """What a clip's file is to be good for."""

    encoder: str
    container: str
    options: dict[str, str]  # of the encoder
    pixels: str | None = None  # None: chroma halved where the size is even, or else whole
    file_options: dict[str, str] | None = None


# x264's constant quality: no difference that an eye would find. The index in front: on a page a
# clip then plays before it is loaded whole.
PLAYABLE = Codec(
    "libx264",
    "mp4",
    {"crf": "16", "preset": "medium"},
    file_options={"movflags": "faststart"},
)
# The very frames are read again. Halved chroma would blur the colours of tiny pictures.
LOSSLESS = Codec("libx264rgb", "mp4", {"qp": "0"}, "rgb24")
# Small and made at once, for a page. VP9 at a constant quality, as fast as it goes.
PREVIEW = Codec(
    "libvpx-vp9",
    "webm",
    {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"},
    "yuv420p",
)


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture with its colour profile; the suffix tells the format."""
    with atomic(path) as temporary:
        picture.save(temporary, icc_profile=picture.info.get("icc_profile"))


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    sound: Sound | None = None,
    comment: str | None = None,
    codec: Codec = PLAYABLE,
) -> None:
    """A file of frames (H, W, 3), uint8, of one size: if not said otherwise an MP4 (H.264, BT.709).

    Chroma is halved (yuv420p), as all players expect it. Of an odd width or height it cannot be:
    such a clip keeps its size and its whole chroma (yuv444p), which players on desks decode and
    some browsers, above all on phones, do not. Sound is copied where MP4s hold its kind. A comment
    is kept among the file's metadata.
    """
    with atomic(path) as temporary:
        _encode(url(temporary), frames, fps, codec, sound, comment)


def clip_bytes(frames: Iterable[np.ndarray], fps: Fraction, codec: Codec = PREVIEW) -> bytes:
    """The file of such frames, in memory."""
    out = BytesIO()
    _encode(out, frames, fps, codec)
    return out.getvalue()


def _encode(
    file: str | BytesIO,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    codec: Codec,
    sound: Sound | None = None,
    comment: str | None = None,
) -> None:
    import av

    frames = iter(frames)
    first = next(frames)
    with ExitStack() as opened:
        out = opened.enter_context(
            av.open(file, "w", format=codec.container, options=codec.file_options or {})
        )
        if comment is not None:
            out.metadata["comment"] = comment
        stream = _add_stream(out, first, fps, codec)
        heard = sound_packets(out, sound, opened) if sound else []
        for i, array in enumerate(chain([first], frames)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24")
            if stream.pix_fmt != "rgb24":
                frame = frame.reformat(
                    format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG"
                )
            frame.pts, frame.time_base = i, 1 / fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        out.mux(heard)


def _add_stream(
    out: OutputContainer, first: np.ndarray, fps: Fraction, codec: Codec
) -> VideoStream:
    stream = out.add_stream(codec.encoder, rate=fps, options=codec.options)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = codec.pixels or ("yuv420p" if has_even_sides(first) else "yuv444p")
    if stream.pix_fmt != "rgb24":
        coder = stream.codec_context
        coder.color_primaries = coder.color_trc = coder.colorspace = BT709
        coder.color_range = VIDEO_RANGE
    return stream


def has_even_sides(frame: np.ndarray) -> bool:
    """Whether chroma of half the size fits a frame (H, W, 3)."""
    return not any(side % 2 for side in frame.shape[:2])


def write_frames(folder: Path, frames: Iterable[Image.Image], names: Iterable[str]) -> None:
    """A new or empty folder of pictures, one for each frame; atomically."""
    if folder.is_dir():
        folder.rmdir()  # an empty one makes room; OSError for any other
    with atomic(folder) as temporary:
        temporary.mkdir()
        for name, frame in zip(names, frames, strict=True):
            frame.save(temporary / name, icc_profile=frame.info.get("icc_profile"))
