"""The video of a clip's file, by FFmpeg: when its frames are shown, and the frames themselves."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from . import MediaError
from .rgb import FrameConverter, Transfer, transfer_of, upright_size

if TYPE_CHECKING:
    from av import CodecContext, Packet, VideoFrame, VideoStream
    from av.container import InputContainer

# Decoders keep a frame or two for each of their threads.
THREADS = 4
# A container whose header says how long a file is, and by how many seconds that may be off.
PROMISING, OFF, MICROSECONDS = "matroska,webm", Fraction(1, 2), 1_000_000
# Codecs whose transparency is a second picture in each packet, which other decoders leave aside.
TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class Timed(NamedTuple):
    """A decoded frame, when it is shown and for how long, in seconds."""

    frame: Any  # what `convert` of the same file takes
    when: Fraction
    lasts: Fraction  # 0: unknown


class Times(NamedTuple):
    """When every frame is shown, in ascending seconds, and for how long the last one is."""

    shown: list[Fraction]
    tail: Fraction
    undecodable: int = 0  # frames before the first key frame
    missing: int = 0  # behind those; only where they were not asked to be there


class _Mark(NamedTuple):
    """What a packet tells without being decoded."""

    when: Fraction | None
    lasts: Fraction
    key: bool
    discarded: bool
    corrupt: bool


class FrameFacts(NamedTuple):
    """What a decoded frame, and the file around it, tell."""

    width: int  # upright
    height: int
    depth: int
    transfer: Transfer
    interlaced: bool
    declared: Fraction | None  # the rate that the file names
    audio: bool


class Video:
    """The first video stream of an open file."""

    def __init__(self, container: InputContainer, *, whole: bool) -> None:
        """`whole`: MediaError for a file that lost its end; or else it ends where it was lost."""
        self._container, self._whole = container, whole
        shown = [s for s in container.streams.video if not is_cover(s)]
        if not shown:
            raise MediaError("it has no video stream")
        if not is_decodable(shown[0]):
            raise MediaError("its codec is none that this FFmpeg decodes")
        self._stream = shown[0]
        self._stream.thread_type, self._stream.codec_context.thread_count = "AUTO", THREADS
        self._coder = _transparent(self._stream)
        self.damaged = False  # frames were given that come behind some which cannot be decoded
        self._waiting = False  # for the key frame behind those
        self.convert = FrameConverter(self._stream)

    def look(self, frame: VideoFrame) -> FrameFacts:
        """What one of its frames tells."""
        stream, container = self._stream, self._container
        return FrameFacts(
            *upright_size(frame, stream),
            max(component.bits for component in frame.format.components),
            transfer_of(stream),
            bool(frame.interlaced_frame),
            stream.average_rate and Fraction(stream.average_rate),
            bool(container.streams.audio),
        )

    def times(self) -> Times:
        """Return when every frame is shown; nothing is decoded.

        Packets that have no time of their own count at the stream's rate. What a decoder cannot
        begin with, before the first key frame, is only counted.
        """
        marks, lost = self._marks()
        first = next((i for i, mark in enumerate(marks) if mark.key), 0)
        shown = [mark for mark in marks[first:] if not mark.discarded]
        bad = next((i for i, mark in enumerate(shown) if mark.corrupt), len(shown))
        if self._whole and bad < len(shown):
            raise MediaError(f"it is damaged or ends early, at frame {bad + 1}")
        if self._whole and lost > OFF:
            raise MediaError(f"it lost its end: {float(lost):.1f} s of it are missing")
        missing = round(lost * self._rate) if lost > OFF else 0
        if shown[bad:]:
            whole = max(len(shown), (self._stream.frames or 0) - first)
            shown = [mark for mark in shown if not mark.corrupt]
            missing = whole - len(shown)
        if not shown:
            raise MediaError("it has no frames")
        times = [
            number / self._rate if mark.when is None else mark.when
            for number, mark in enumerate(shown)
        ]
        _, tail = max(zip(times, (mark.lasts for mark in shown), strict=True))
        times = sorted(set(times))
        if not tail:
            rest = len(times) - 1
            tail = (times[-1] - times[0]) / rest if rest else 1 / self._rate
        undecodable = sum(not mark.discarded for mark in marks[:first])
        return Times(times, tail, undecodable, missing)

    def decoded(self) -> Iterator[Timed]:
        """Frames of one size in the order of their times, each time once."""
        before = size = None
        for number, frame in enumerate(self._frames()):
            if frame.is_corrupt:
                if before is None:
                    continue
                if self._whole:
                    raise MediaError(f"frame {number + 1} is damaged")
                self._waiting = True
            if self._waiting:
                if frame.is_corrupt or not frame.key_frame:
                    continue
                self._waiting, self.damaged = False, before is not None
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                was, now = (" x ".join(map(str, s)) for s in (size, (frame.width, frame.height)))
                raise MediaError(f"its size changes from {was} to {now} pixels")
            base = frame.time_base or self._stream.time_base
            when = number / self._rate if frame.pts is None else frame.pts * base
            if before is None or when > before:
                yield Timed(frame, when, (frame.duration or 0) * base)
                before = when

    def sought(self, when: Fraction) -> Iterator[Timed]:
        """Frames from one at or before `when`; after a seek that missed, those from the start."""
        for target in (when, Fraction(0)):
            base = self._stream.time_base
            self._container.seek(floor(target / base), stream=self._stream, backward=True)
            if self._coder:
                self._coder.flush_buffers()
            decoded = self.decoded()
            first = next(decoded, None)
            if first is not None and (first.when <= when or target == 0):
                return chain([first], decoded)
        raise MediaError(f"it cannot be read from {float(when):.1f} s on")

    def _marks(self) -> tuple[list[_Mark], Fraction]:
        """The marks of all packets, and how many seconds the file lacks of what its header says."""
        promised, end, marks = Fraction(0), Fraction(0), []
        if self._container.format.name == PROMISING:
            promised = Fraction(self._container.duration or 0) / MICROSECONDS
        # Of a promise all streams are read: the sound may be longer.
        for packet in self._container.demux(*([] if promised else [self._stream])):
            if packet.size and packet.stream == self._stream:
                marks.append(self._mark(packet))
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        return marks, max(promised - end, Fraction(0))

    def _mark(self, packet: Packet) -> _Mark:
        when, base = packet.dts if packet.pts is None else packet.pts, self._stream.time_base
        return _Mark(
            None if when is None else when * base,
            (packet.duration or 0) * base,
            packet.is_keyframe,
            packet.is_discard,
            packet.is_corrupt,
        )

    @property
    def _rate(self) -> Fraction:
        return Fraction(self._stream.average_rate or self._stream.base_rate or 25)

    def _frames(self) -> Iterator[VideoFrame]:
        """What the decoder gives, from the first key frame on.

        Of a clip that was cut off a key frame, the frames that are shown before that one and are
        told by what is no longer there are left out too.
        """
        import av

        begins = None
        for packet, cut in self._packets():
            if cut and begins is None:
                begins = packet.pts
            try:
                frames = self._decode(packet)
            except av.FFmpegError:
                if self._whole:
                    raise
                self._waiting = True
                continue
            for frame in frames:
                if begins is None or frame.pts is None or frame.pts >= begins:
                    yield frame

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        if self._coder is None:
            return packet.decode()
        return self._coder.decode(packet if packet.size else None)

    def _packets(self) -> Iterator[tuple[Packet, bool]]:
        """Yield packets from the first key frame on, and whether something was before it."""
        packets, waiting = self._container.demux(self._stream), []
        for packet in packets:
            if packet.is_keyframe:
                cut = any(p.size and not p.is_discard for p in waiting)
                yield from ((p, cut) for p in chain([packet], packets))
                return
            waiting.append(packet)
        yield from ((packet, False) for packet in waiting)


def is_still(container: InputContainer) -> bool:
    """Whether a file holds a single picture, of a format that FFmpeg reads."""
    return container.format.name == "image2" or container.format.name.endswith("_pipe")


def is_cover(stream: VideoStream) -> bool:
    """The picture of a record, which players keep as a video of one frame."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def is_decodable(stream: VideoStream) -> bool:
    """Whether there is a decoder; without one PyAV knows nothing of a stream, not even its size."""
    return stream.codec_context is not None


def _transparent(stream: VideoStream) -> CodecContext | None:
    """A decoder that also gives the transparency, where the stream has it beside its pictures."""
    import av

    name = TRANSPARENT.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        return av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        raise MediaError(f"it is transparent, for which this FFmpeg lacks {name}") from None
