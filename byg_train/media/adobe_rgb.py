"""Adobe RGB (1998), which cameras tell in EXIF alone: whether a picture is so, and the profile."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache

from PIL import ExifTags, Image

# EXIF 2.3: the colour space is told by the interoperability index; some programs write 2 for it.
UNCALIBRATED, ADOBE, INDEX = 0xFFFF, 2, "R03"
# XYZ under D50: white, and red, green and blue as they are brought there (Bradford).
WHITE = (0.9642, 1.0, 0.8249)
PRIMARIES = {
    b"r": (0.60974, 0.31111, 0.01947),
    b"g": (0.20528, 0.62567, 0.06087),
    b"b": (0.14919, 0.06322, 0.74457),
}
GAMMA = 563  # of 256


def tells_adobe_rgb(picture: Image.Image) -> bool:
    """Whether EXIF says so; of what cannot be read nothing is known."""
    if picture.mode not in ("RGB", "YCbCr"):
        return False
    try:
        exif = picture.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return False
    index = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    return space == ADOBE or (space in (None, UNCALIBRATED) and index.strip(" \0") == INDEX)


@cache
def adobe_rgb() -> bytes:
    """The profile (ICC 2.4), which programs may embed."""
    name = b"compatible with Adobe RGB (1998)\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0public domain\0",
        b"wtpt": _xyz(WHITE),
    }
    for letter, xyz in PRIMARIES.items():
        tags[letter + b"XYZ"] = _xyz(xyz)
        tags[letter + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, GAMMA)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head + _xyz(WHITE)[8:]).ljust(128, b"\0") + table + body


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))
