"""Colour profiles: pictures to sRGB by the profile that they have, and results back into it."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable
from functools import cache, lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms

log = logging.getLogger("byg_train")

# Colour model of a profile -> Pillow's mode of what it describes.
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# A profile that changes no colour of a grid by more levels than this is sRGB by another name.
SAME = 1
# Profiles whose transforms are kept; those of CMYK take megabytes.
KEPT = 16
SRGB = ImageCms.createProfile("sRGB")


class Profile(NamedTuple):
    """What an embedded profile does."""

    name: str
    mode: str  # of the pictures that it describes
    to_srgb: ImageCms.ImageCmsTransform | None  # None: it is sRGB
    from_srgb: ImageCms.ImageCmsTransform | None  # None: it is sRGB, or describes no RGB


class ProfileError(ValueError):
    """A profile that cannot be used; why."""


def profile_of(picture: Image.Image) -> Profile | None:
    """The picture's own profile; None, and a warning, where it has none that can be used.

    A grey picture may have a profile of RGB. LAB says by itself what its numbers mean.
    """
    data = _data(picture)
    if not data or picture.mode == "LAB":
        return None
    try:
        profile = _profile(data)
        if profile.mode not in _described(picture):
            raise ProfileError(f"it is of {profile.mode} pictures")
    except ProfileError as error:
        _warn(str(getattr(picture, "filename", "") or "a picture"), str(error))
        return None
    return profile


def as_srgb(picture: Image.Image, profile: Profile) -> Image.Image:
    """Colours (no alpha) by a profile of theirs -> RGB in sRGB."""
    if profile.to_srgb is None:
        return picture.convert("RGB")
    return ImageCms.applyTransform(picture.convert(profile.mode), profile.to_srgb)


def with_profile(result: Image.Image, source: Image.Image) -> Image.Image:
    """A result in sRGB (RGB) in the colours of its source's profile, which it embeds then.

    Only a profile of RGB can describe it; beside any other it stays as it is. One of an RGB source
    that cannot be used comes back unused: programs show the result as they show the source.
    """
    profile = profile_of(source)
    if profile.mode != "RGB" if profile else source.mode not in ("RGB", "RGBA", "P"):
        return result
    if profile and profile.from_srgb is not None:
        result = ImageCms.applyTransform(result, profile.from_srgb)
    if data := _data(source):
        result.info["icc_profile"] = data
    return result


def note(source: Image.Image) -> str | None:
    """What becomes of the colours in an edit, where a person may not expect it."""
    if (profile := profile_of(source)) is None:
        if source.mode == "CMYK":
            return "is CMYK without a profile that can be used: its colours are guessed"
        broken = "icc_profile" in source.info and source.mode != "LAB"
        return "has a colour profile that cannot be used: taken as sRGB" if broken else None
    if profile.mode != "RGB":
        return f"has the profile {profile.name!r} of {profile.mode} pictures: the edit is in sRGB"
    if profile.to_srgb is None:
        return None
    return f"has the profile {profile.name!r}: it is edited in sRGB, and brought back into it"


def _data(picture: Image.Image) -> bytes | None:
    """The profile that a picture embeds, or that its EXIF speaks of."""
    if data := picture.info.get("icc_profile"):
        return data
    return adobe_rgb() if tells_adobe_rgb(picture) else None


def _described(picture: Image.Image) -> tuple[str, ...]:
    """The modes of profiles that may describe a picture."""
    if picture.mode == "CMYK":
        return ("CMYK",)
    return ("L", "RGB") if picture.mode in ("1", "L", "LA", "I", "I;16") else ("RGB",)


@lru_cache(KEPT)
def _profile(data: bytes) -> Profile:
    try:
        embedded = ImageCms.ImageCmsProfile(BytesIO(data))
        mode = MODES.get(embedded.profile.xcolor_space.strip())
        if mode is None:
            raise ProfileError(f"it is of {embedded.profile.xcolor_space.strip()} pictures")
        to_srgb = ImageCms.buildTransform(embedded, SRGB, mode, "RGB")
        same = mode == "RGB" and _changes_nothing(to_srgb)
        back = mode == "RGB" and not same
        from_srgb = ImageCms.buildTransform(SRGB, embedded, "RGB", "RGB") if back else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise error if isinstance(error, ProfileError) else ProfileError(str(error)) from None
    name = (embedded.profile.profile_description or "").strip() or "without a name"
    return Profile(name, mode, None if same else to_srgb, from_srgb)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 9, 3)
    shown = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    return int(np.abs(shown.astype(int) - grid).max()) <= SAME


@lru_cache(1000)
def _warn(name: str, why: str) -> None:
    """Warn once for each file."""
    log.warning("%s has a colour profile that cannot be used (%s): taken as sRGB", name, why)


# Cameras tell it in EXIF alone.
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
