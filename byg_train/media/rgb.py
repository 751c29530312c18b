"""Whatever a decoder gives, as 8-bit RGB: upright, of square pixels, HDR brought to SDR, on white.

Training, captioning, editing and evaluation see pixels of here and of nowhere else.
"""

from __future__ import annotations

import struct
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from . import MediaError
from .profiles import as_srgb, profile_of

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.filter import FilterContext, Graph

Transfer = Literal["sdr", "pq", "hlg"]
# H.273 transfer characteristics of HDR.
HDR: dict[int, Transfer] = {16: "pq", 18: "hlg"}
# Compresses what is brighter than paper white, where clipping would burn it out.
TO_SDR = "out_primaries=bt709:out_transfer=bt709:intent=perceptual"
FLOAT = "a floating-point picture: export it with 8 or 16 bits per channel"
# What is seen through transparent pixels, in pictures and in clips.
GROUND = 255
# H.273: no matrix is named. Players take BT.709 for clips that are larger, BT.601 for others.
UNTOLD, WIDE, HIGH = 2, 1280, 576
# The last graph that brought HDR to SDR, of each thread: to set one up takes more than a second.
_KEPT = threading.local()


# ---------------------------------------------------------------- pictures


def to_rgb(picture: Image.Image) -> Image.Image:
    """Upright (EXIF), 16 bits brought to 8, any colour model as sRGB, transparency on GROUND.

    Colours are those of the embedded profile (`profiles`); without one they are taken as sRGB.
    """
    profile, picture = profile_of(picture), upright(picture)
    if picture.mode == "F":
        raise MediaError(FLOAT)
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.float64) / 257  # 65535 / 255
        picture = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    colours = as_srgb(picture, profile) if profile else picture.convert("RGB")
    if alpha is None:
        return colours
    return Image.composite(colours, Image.new("RGB", colours.size, (GROUND,) * 3), alpha)


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as EXIF says; it stays as stored where EXIF tells none of the eight ways."""
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        picture.load()  # what is wrong with the picture itself is raised
        return picture.copy()


# ---------------------------------------------------------------- frames of clips


def transfer_of(stream: VideoStream) -> Transfer:
    """Return how a stream codes brightness."""
    return HDR.get(stream.codec_context.color_trc, "sdr")


def expect_tone_mapping() -> None:
    """MediaError where FFmpeg is too old to bring HDR to SDR."""
    from av.filter import Graph

    _tone_mapping(Graph())


def upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(width, height) in square pixels."""
    return orientation_of(frame).size(*_square(frame, stream))


def _square(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Return (width, height) as stored, but of square pixels."""
    aspect = stream.sample_aspect_ratio or 1
    return max(1, round(frame.width * aspect)), frame.height


class FrameConverter:
    """Decoded frames of one clip -> upright RGB (H, W, 3)."""

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self.hdr = transfer_of(stream) != "sdr"

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """(H, W, 3), uint8."""
        orientation, size = orientation_of(frame), _square(frame, self.stream)
        components = frame.format.components
        if components[0].bits > 16:
            raise MediaError(FLOAT)
        alpha = any(component.is_alpha for component in components)
        if alpha:
            array = _array(frame, size, "rgba")
            if self.hdr:
                array[..., :3] = _array(self._sdr(frame), size, "rgb24")
            array = _on_ground(array)
        else:
            array = _array(self._sdr(frame) if self.hdr else frame, size, "rgb24")
        return np.ascontiguousarray(orientation.apply(array))

    def _sdr(self, frame: VideoFrame) -> VideoFrame:
        colours = frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries
        key = frame.width, frame.height, frame.format.name, colours
        # Taken out: one that failed half-way holds a frame, and is not used again.
        graph = _KEPT.__dict__.pop("graphs", {}).get(key) or _sdr_graph(self.stream, frame)
        graph.push(frame)
        shown = graph.pull()
        _KEPT.graphs = {key: graph}
        return shown


def _array(frame: VideoFrame, size: tuple[int, int], pixels: str) -> np.ndarray:
    """Convert a frame to a size and to RGB, by the matrix that the clip names."""
    width, height = size
    untold = frame.colorspace == UNTOLD and (frame.width >= WIDE or frame.height > HIGH)
    matrix = {"src_colorspace": "ITU709"} if untold else {}
    return frame.to_ndarray(width=width, height=height, format=pixels, **matrix)


def _on_ground(array: np.ndarray) -> np.ndarray:
    """(H, W, 4) -> (H, W, 3)."""
    colour, alpha = array[..., :3].astype(np.uint16), array[..., 3:].astype(np.uint16)
    return ((colour * alpha + GROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def _tone_mapping(graph: Graph) -> FilterContext:
    import av

    try:
        return graph.add("scale", TO_SDR)
    except av.FFmpegError:
        raise MediaError(
            "it is HDR, which needs a newer PyAV (pip install -U av, 16 or later), or a copy in SDR"
        ) from None


def _sdr_graph(stream: VideoStream, frame: VideoFrame) -> Graph:
    """A graph that is pushed frames like this one, and gives RGB of them."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base
    )
    steps = [_tone_mapping(graph), graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")]
    for now, after in pairwise([source, *steps]):
        now.link_to(after)
    graph.configure()
    return graph


# ---------------------------------------------------------------- which way up a clip is shown

# By how much of its larger numbers the smaller ones of a matrix may differ from nought.
NEAR = 0.01


class Orientation(NamedTuple):
    """One of the eight ways up of a clip's display matrix: transposed first, then mirrored.

    What is none of the eight (any other angle, or numbers that are no orientation at all) is left
    aside, by the size and by the pixels alike. EXIF's of pictures are Pillow's to apply.
    """

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) upright."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(H, W, ...) as stored -> upright, a view."""
        array = array.swapaxes(0, 1) if self.transposed else array
        return array[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that a decoded frame asks for; as stored where it asks for none."""
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    return from_matrix(*struct.unpack("=9i", bytes(matrix))) if matrix else Orientation()


def from_matrix(
    a: int, b: int, u: int, c: int, d: int, v: int, x: int, y: int, w: int
) -> Orientation:
    """FFmpeg's matrix: a stored pixel (x, y) is shown at (ax + cy, bx + dy)."""
    straight, crossed = (abs(a), abs(d)), (abs(b), abs(c))
    if min(straight) > 0 and max(crossed) <= NEAR * min(straight):
        return Orientation(mirrored_x=a < 0, mirrored_y=d < 0)
    if min(crossed) > 0 and max(straight) <= NEAR * min(crossed):
        return Orientation(transposed=True, mirrored_x=c < 0, mirrored_y=b < 0)
    return Orientation()
