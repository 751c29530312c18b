"""Files as frames, and frames as files. A picture is a clip of one frame."""

from __future__ import annotations

from pathlib import Path


class MediaError(ValueError):
    """A file that cannot be used as a picture or a clip; one sentence without the file's name."""


def url(path: Path | str) -> str:
    """A file's name as FFmpeg wants it: `12:30.mp4` alone would be taken for a protocol."""
    return f"file:{path}"


class SourceError(ValueError):
    """A clip, or a folder of frames, that cannot be edited; the message names it."""
