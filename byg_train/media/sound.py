"""The sound of a clip, carried over into the file of its edit."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import url

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer, OutputContainer

log = logging.getLogger("byg_train")

# Sound that players find in an MP4; any other is encoded anew as AAC.
COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
# Bits a second and channel, and the highest rate, of sound that is encoded anew.
BITS, RATE = 128_000, 48_000


class Sound(NamedTuple):
    """The sound of a clip, or of a part of it; in seconds behind the beginning of its picture."""

    path: Path
    start: Fraction = Fraction(0)
    end: Fraction | None = None  # None: all there is, also behind the last frame
    zero: Fraction | None = (
        None  # when the picture begins, by the file; None: where its stream does
    )

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
    """As they are, bit by bit, on the frames' clock; at a cut a packet may reach beyond it."""
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
