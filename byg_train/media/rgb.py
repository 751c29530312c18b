"""Whatever a decoder gives, as 8-bit RGB: upright, of square pixels, HDR brought to SDR, on white.

Training, captioning, editing and evaluation see pixels of here and of nowhere else.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from . import MediaError

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.filter import FilterContext, Graph

Transfer = Literal["sdr", "pq", "hlg"]
# H.273 transfer characteristics of HDR.
HDR: dict[int, Transfer] = {16: "pq", 18: "hlg"}
# Compresses what is brighter than paper white, where clipping would burn it out.
TO_SDR = "out_primaries=bt709:out_transfer=bt709:intent=perceptual"
# What is seen through transparent pixels, in pictures and in clips.
GROUND = 255


# ---------------------------------------------------------------- pictures


def to_rgb(picture: Image.Image) -> Image.Image:
    """Upright (EXIF), 16 bits brought to 8, transparency on GROUND, any colour model as RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise MediaError("a floating-point picture: export it with 8 or 16 bits per channel")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.float64) / 257  # 65535 / 255
        picture = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (GROUND, GROUND, GROUND, 255))
        picture = Image.alpha_composite(ground, layer)
    return picture.convert("RGB")


# ---------------------------------------------------------------- frames of clips


def transfer_of(stream: VideoStream) -> Transfer:
    """How brightness is coded."""
    return HDR.get(stream.codec_context.color_trc, "sdr")


def expect_tone_mapping() -> None:
    """MediaError where FFmpeg is too old to bring HDR to SDR."""
    from av.filter import Graph

    _tone_mapping(Graph())


def upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(width, height) in square pixels."""
    size = _square(frame, stream)
    return size[::-1] if _quarter_turns(frame) % 2 else size


def _square(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """As stored, but of square pixels."""
    aspect = stream.sample_aspect_ratio or 1
    return max(1, round(frame.width * aspect)), frame.height


def _quarter_turns(frame: VideoFrame) -> int:
    """Anticlockwise: telephones film upright and store it lying, with the angle back."""
    return round(frame.rotation / 90) % 4


class FrameConverter:
    """Decoded frames of one clip -> upright RGB (H, W, 3)."""

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self.hdr = transfer_of(stream) != "sdr"
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """(H, W, 3), uint8."""
        turns = _quarter_turns(frame)
        width, height = _square(frame, self.stream)
        alpha = any(component.is_alpha for component in frame.format.components)
        if self.hdr:
            frame = self._sdr(frame)
        array = frame.to_ndarray(width=width, height=height, format="rgba" if alpha else "rgb24")
        array = np.rot90(_on_ground(array) if alpha else array, turns)
        return np.ascontiguousarray(array)

    def _sdr(self, frame: VideoFrame) -> VideoFrame:
        if self._graph is None:
            self._graph = _sdr_graph(self.stream, frame)
        self._graph.push(frame)
        return self._graph.pull()


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
