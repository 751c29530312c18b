"""Pictures and clips as people have them: profiles, mirrors, transparency, cuts."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
from PIL import Image

# ---------------------------------------------------------------- colour profiles

WHITE = (0.9642, 1.0, 0.8249)  # D50
# XYZ of red, green and blue under D50.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))


def rgb_profile(
    primaries: tuple[tuple[float, float, float], ...] = ADOBE_RGB,
    gamma: float = 563 / 256,
    name: str = "Adobe RGB (1998)",
) -> bytes:
    """A profile of three primaries and a gamma."""
    tags = {b"wtpt": _xyz(WHITE), b"desc": _desc(name)}
    for letter, xyz in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(xyz)
        tags[bytes([letter]) + b"TRC"] = _gamma(gamma)
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def gray_profile(gamma: float = 1.0) -> bytes:
    """A profile of grey with a gamma."""
    tags = {b"wtpt": _xyz(WHITE), b"desc": _desc("linear grey"), b"kTRC": _gamma(gamma)}
    return _profile(b"GRAY", b"mntr", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A press whose full inks give colours of their own: two steps of each ink, as Lab."""
    inks = {0: (55, -37, -50), 1: (48, 74, -3), 2: (89, -5, 93), 3: (16, 0, 0)}
    table = b""
    for amounts in product((0, 1), repeat=4):
        lab = np.array([100.0, 0, 0])
        for ink, amount in enumerate(amounts):
            if amount:
                lab = np.array([lab[0] * inks[ink][0] / 100, *(lab[1:] + inks[ink][1:])])
        light, a, b = np.clip(lab, (0, -128, -128), (100, 127, 127))
        table += bytes([round(light * 2.55), round(a + 128), round(b + 128)])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"wtpt": _xyz(WHITE), b"A2B0": lut,
                                                b"desc": _desc("a press")})  # fmt: skip


def _profile(space: bytes, device: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {**tags, b"cprt": b"text\0\0\0\0none\0"}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, device, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + _xyz(WHITE)[8:]
    return head + bytes(128 - len(head)) + table + body


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _desc(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)


# ---------------------------------------------------------------- clips


def show_by(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Overwrite the display matrix (a, b, c, d) of an MP4's only track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


def moving(
    path: Path,
    codec: str = "libx264",
    form: str | None = None,
    *,
    pixels: str = "yuv420p",
    frames: int = 24,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of two seconds: a red square that moves over a ground that grows brighter.

    A key frame every eight; `form` is the container, where the name does not tell.
    """
    width, height = size
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=12, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.gop_size = 8
        for i in range(frames):
            array = np.full((height, width, 3), 40 + 8 * (i % 24), np.uint8)
            array[: height // 4, i % width : i % width + width // 4] = (200, 30, 30)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        out.mux(stream.encode())
    return path


def transparent(path: Path, codec: str, pixels: str, frames: int = 6) -> Path:
    """A clip that is red on the left, half of it at half strength, and clear on the right."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(layer(), "rgba")))
        out.mux(stream.encode())
    return path


def transparent_picture(path: Path, frames: int = 6, **options: object) -> Path:
    """The same as a picture that moves: its first row tells the frames apart."""
    pictures = [Image.fromarray(layer(i)) for i in range(frames)]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=80, loop=0, **options
    )
    return path


def layer(number: int = 0) -> np.ndarray:
    """(48, 64, 4): see `transparent`."""
    array = np.zeros((48, 64, 4), np.uint8)
    array[:, :32] = (200, 30, 30, 255)
    array[24:, :32, 3] = 128
    array[:4, : 8 * number] = (0, 0, 200, 255)
    return array


def coloured(
    path: Path,
    matrix: int,
    *,
    named: int | None = None,
    full: bool = False,
    size: tuple[int, int] = (64, 48),
    rgb: tuple[int, int, int] = (200, 30, 30),
    frames: int = 3,
) -> Path:
    """A clip of one colour, coded by an H.273 matrix (1: BT.709, 5: BT.601, 9: BT.2020).

    `named`: the matrix that the file names, if it is another; 2 names none.
    """
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    r, g, b = (level / 255 for level in rgb)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - luma) / 2 / (1 - blue), (r - luma) / 2 / (1 - red)
    levels = [255 * luma, *(128 + 255 * c for c in chroma)]
    if not full:
        levels = [16 + 219 * luma, *(128 + 224 * c for c in chroma)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=12, options={"qp": "0"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        coder = stream.codec_context
        coder.colorspace, coder.color_range = named or matrix, 2 if full else 1
        for _ in range(frames):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(bytes([round(level)]) * plane.buffer_size)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def cut(source: Path, path: Path, packets: int) -> Path:
    """A copy without the first packets, cut off a key frame; nothing is encoded."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in clip.streams}
        begins: Fraction | None = None
        for number, packet in enumerate(p for p in clip.demux(video=0) if p.size):
            if number >= packets and (begins is not None or not packet.is_keyframe):
                begins = begins if begins is not None else packet.dts * packet.time_base
                packet.stream = streams[0]
                out.mux(packet)
        clip.seek(0)
        for packet in clip.demux(audio=0) if clip.streams.audio else ():
            if packet.size and packet.dts * packet.time_base >= begins:
                packet.stream = streams[1]
                out.mux(packet)
    return path
