"""Pictures and clips as the small JPEGs that a model is shown."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ...media.pictures import PictureError, rgb

if TYPE_CHECKING:
    from av import VideoFrame

# Longest side in pixels, of a picture and of each frame of a clip.
SIDE, FRAME_SIDE = 1024, 512
# Of each clip so many frames are shown.
FRAMES = 8
# Seconds from which on only key frames are decoded: a film takes no longer than a clip.
LONG = 60


def picture_jpeg(path: Path) -> bytes:
    """A picture, upright, at most SIDE large; raises PictureError."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (SIDE, SIDE))  # of a JPEG no more than is needed
            return _jpeg(rgb(picture), SIDE)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise PictureError(f"it cannot be read: {error}") from error


def clip_jpegs(path: Path) -> list[bytes]:
    """At most FRAMES frames of a clip, evenly spread; raises PictureError."""
    try:
        frames = _spread(_frames(path))
    except Exception as error:  # likewise
        raise PictureError(f"it cannot be read: {error}") from error
    if not frames:
        raise PictureError("it has no frames")
    return frames


def _frames(path: Path) -> Iterator[VideoFrame]:
    import av

    with av.open(str(path)) as clip:
        if not clip.streams.video:
            return
        stream = clip.streams.video[0]
        stream.thread_type = "AUTO"
        if (clip.duration or 0) > LONG * av.time_base:
            stream.codec_context.skip_frame = "NONKEY"
        yield from clip.decode(stream)


def _spread(frames: Iterator[VideoFrame]) -> list[bytes]:
    """FRAMES of them without knowing how many will come, and never more than twice that kept."""
    kept: list[Image.Image] = []
    stride = 1
    for index, frame in enumerate(frames):
        if index % stride:
            continue
        kept.append(_small(frame))
        if len(kept) == 2 * FRAMES:
            kept, stride = kept[::2], 2 * stride
    number = min(FRAMES, len(kept))
    # The middles of `number` equal parts.
    chosen = [kept[(2 * i + 1) * len(kept) // (2 * number)] for i in range(number)]
    return [_jpeg(image, FRAME_SIDE) for image in chosen]


def _small(frame: VideoFrame) -> Image.Image:
    """A frame as RGB, scaled down before it is converted: a 4K film has large ones."""
    scale = min(1.0, FRAME_SIDE / max(frame.width, frame.height))
    size = {side: max(2, round(getattr(frame, side) * scale)) for side in ("width", "height")}
    image = frame.to_image(**size)
    # Telephones film upright and store it lying, with the angle that turns it back.
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _jpeg(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()
