"""Films: MP4s, folders of frames, and films side by side."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ..files import atomic
from .grid import PAPER, labelled_grid

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer, OutputContainer

log = logging.getLogger("byg_train")

# x264's constant quality: no difference that an eye would find.
QUALITY = {"crf": "16", "preset": "medium"}
# Sound that players find in an MP4; any other is encoded anew as AAC.
COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
# Bits a second and channel, and the highest rate, of sound that is encoded anew.
BITS, RATE = 128_000, 48_000
# H.273: BT.709 and its video range, which players assume for sizes of today.
BT709, VIDEO_RANGE = 1, 1
# Moments of a film on its strip.
MOMENTS = 5


class Sound(NamedTuple):
    """The sound of a clip, or of a part of it; seconds behind the clip's first frame."""

    path: Path
    start: Fraction = Fraction(0)
    end: Fraction | None = None  # None: all there is, also behind the last frame


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    sound: Sound | None = None,
    comment: str | None = None,
) -> None:
    """An MP4 (H.264, BT.709) of frames (H, W, 3), uint8, of one size; atomically.

    Chroma is halved (yuv420p), as all players expect it. Of an odd width or height it cannot be:
    such a film keeps its size and its whole chroma (yuv444p), which players on desks decode and
    some browsers, above all on phones, do not. Sound is copied where MP4s hold its kind. A comment
    is kept among the file's metadata.
    """
    import av

    frames = iter(frames)
    first = next(frames)
    with atomic(path) as temporary, ExitStack() as opened:
        # The index in front: on a page a film then plays before it is loaded whole.
        options = {"movflags": "faststart"}
        out = opened.enter_context(av.open(str(temporary), "w", format="mp4", options=options))
        if comment is not None:
            out.metadata["comment"] = comment
        stream = out.add_stream("libx264", rate=fps, options=QUALITY)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p" if has_even_sides(first) else "yuv444p"
        coder = stream.codec_context
        coder.color_primaries = coder.color_trc = coder.colorspace = BT709
        coder.color_range = VIDEO_RANGE
        heard = _packets(out, sound, opened) if sound else []
        for i, array in enumerate(chain([first], frames)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24").reformat(
                format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = i, 1 / fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        out.mux(heard)


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
            frame.save(temporary / name)


# ---------------------------------------------------------------- sound


class _Part(NamedTuple):
    """What is heard of a file's sound, in seconds of the file's clock."""

    zero: Fraction  # where the film begins
    start: Fraction | None  # None: also what precedes the film, with which decoders prepare
    end: Fraction | None  # None: to the end

    def holds(self, piece: Packet | AudioFrame) -> bool:
        """Whether some of a piece is heard."""
        if piece.pts is None:
            return False
        when = piece.pts * piece.time_base
        ends = when + (piece.duration or 0) * piece.time_base
        return (self.start is None or ends > self.start) and (self.end is None or when < self.end)


def _packets(out: OutputContainer, sound: Sound, opened: ExitStack) -> list[Packet]:
    """A new stream's packets, all at once: seconds of sound are small.

    None, and a warning, where the sound cannot be read: it is no reason to lose an edit.
    """
    import av

    try:
        source = opened.enter_context(av.open(str(sound.path)))
        heard, film = source.streams.audio[0], source.streams.video[0]
        zero = (film.start_time or 0) * film.time_base
        part = _Part(
            zero + sound.start,
            zero + sound.start if sound.start else None,
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
    """As they are, bit by bit, on the film's clock; at a cut a packet may reach out of the part."""
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
    """Decoded, and encoded as AAC."""
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


# ---------------------------------------------------------------- to look at


def side_by_side(
    moments: Iterable[Sequence[Sequence[Image.Image]]],
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    cell: int = 256,
) -> Iterator[np.ndarray]:
    """A film of labelled grids, frame by frame: each moment's rows -> (H, W, 3), of even sides."""
    for rows in moments:
        sheet = labelled_grid(rows, columns, row_labels, cell)
        even = Image.new("RGB", [side + side % 2 for side in sheet.size], PAPER)
        even.paste(sheet)
        yield np.asarray(even)


def film_strip(
    clips: Sequence[np.ndarray], labels: Sequence[str], fps: float, cell: int = 192
) -> Image.Image:
    """Clips (F, H, W, 3) of one length as rows of the same few moments, from first to last."""
    length = len(clips[0])
    number = min(MOMENTS, length)
    shown = [round(i * (length - 1) / max(1, number - 1)) for i in range(number)]
    rows = [[Image.fromarray(clip[i]) for i in shown] for clip in clips]
    return labelled_grid(rows, [f"{i / fps:.1f} s" for i in shown], labels, cell)
