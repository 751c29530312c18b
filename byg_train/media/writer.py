"""The one writer: pictures, clips with their sound, and folders of frames, each atomically."""

from __future__ import annotations

import logging
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

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet, VideoStream
    from av.container import InputContainer, OutputContainer

# H.273: BT.709 and its video range, which players assume for sizes of today.
BT709, VIDEO_RANGE = 1, 1
# Sound that players find in an MP4; any other is encoded anew as AAC.
COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
# Bits a second and channel, and the highest rate, of sound that is encoded anew.
BITS, RATE = 128_000, 48_000


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


log = logging.getLogger("byg_train")


class Sound(NamedTuple):
    """The sound of a clip, or of a part of it; in seconds behind the beginning of its picture."""

    path: Path
    start: Fraction = Fraction(0)
    end: Fraction | None = None  # None: all there is, also behind the last frame
    # When the picture begins, by the file; None: where its stream does.
    zero: Fraction | None = None

    def part(self, start: Fraction, end: Fraction | None) -> Sound:
        """A part of it, in seconds behind its own start."""
        end = None if end is None else self.start + end
        return self._replace(start=self.start + start, end=end)


class _Part(NamedTuple):
    """What is heard of a file's sound, in seconds of the file's clock."""

    zero: Fraction  # where the picture begins
    start: Fraction | None  # None: also what precedes it, with which decoders prepare
    end: Fraction | None  # None: to the end

    def holds(self, piece: Packet | AudioFrame) -> bool:
        """Whether some of a piece is heard."""
        if piece.pts is None:
            return False
        when = piece.pts * piece.time_base
        ends = when + (piece.duration or 0) * piece.time_base
        return (self.start is None or ends > self.start) and (self.end is None or when < self.end)


def sound_packets(out: OutputContainer, sound: Sound, opened: ExitStack) -> list[Packet]:
    """A new stream's packets, all at once: seconds of sound are small.

    None, and a warning, where the sound cannot be read: it is no reason to lose an edit.
    """
    import av

    try:
        source = opened.enter_context(av.open(url(sound.path)))
        heard, shown = source.streams.audio[0], source.streams.video[0]
        zero = (shown.start_time or 0) * shown.time_base if sound.zero is None else sound.zero
        part = _Part(
            zero + sound.start,
            zero + sound.start if sound.start or sound.zero is not None else None,
            None if sound.end is None else zero + sound.end,
        )
        copied = heard.codec_context.name.removesuffix("float") in COPIED
        return (_copied if copied else _encoded)(out, source, heard, part)
    except (av.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", error)
        log.warning("the sound of %s cannot be read (%s): left out", sound.path, reason)
        return []


def _copied(
    out: OutputContainer, source: InputContainer, heard: AudioStream, part: _Part
) -> list[Packet]:
    """Copy packets bit by bit, on the frames' clock; at a cut one may reach beyond it."""
    packets = [p for p in source.demux(heard) if p.size and part.holds(p)]
    # Only now: of a stream that cannot be read nothing is to be left.
    track = out.add_stream_from_template(heard) if packets else None
    for packet in packets:
        packet.pts = packet.dts = packet.pts - round(part.zero / packet.time_base)
        packet.stream = track
    return packets


def _encoded(
    out: OutputContainer, source: InputContainer, heard: AudioStream, part: _Part
) -> list[Packet]:
    """Decode the sound, and encode it as AAC."""
    frames = [frame for frame in source.decode(heard) if part.holds(frame)]
    if not frames:
        return []
    layout = heard.codec_context.layout
    track = out.add_stream("aac", rate=min(RATE, heard.codec_context.rate), layout=layout.name)
    track.bit_rate, packets = BITS * layout.nb_channels, []
    for frame in frames:
        frame.pts -= round(part.zero / frame.time_base)
        packets += track.encode(frame)
    return packets + track.encode()
