"""Picture files as people have them: every format, under any name, with any colours and turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.odd.case import Case, check, findings, found, styles, tuples
from benchmarks.odd.media import cmyk_profile, gray_profile, rgb_profile, transparent_picture

RED = (200, 30, 30)
ADOBE = rgb_profile()
# Name -> format. Of each there is one that has its ending, and some that have another or none.
FORMATS = {
    "x.avif": "AVIF", "x.jfif": "JPEG", "x.jpe": "JPEG", "x.JPEG": "JPEG", "x.gif": "GIF",
    "x.tga": "TGA", "x.jp2": "JPEG2000", "x.ppm": "PPM", "x.ico": "ICO", "x.pcx": "PCX",
    "x.dds": "DDS", "x.sgi": "SGI", "x.bmp": "BMP", "x.dib": "DIB", "x.qoi": "QOI",
    "x.mpo": "MPO", "x.tiff": "TIFF", "x.webp": "WEBP", "x.im": "IM",
    "noending": "JPEG", "no.12 ending": "PNG", "x.jpg": "AVIF", "x.png": "WEBP", "x.mp4": "PNG",
    "x.jpg_large": "JPEG", "x.jpg.part": "JPEG", "x.dat": "TIFF", "tga": "TGA", "x.gifv": "GIF",
}  # fmt: skip
MOVING = {"x.gif": "GIF", "x.webp": "WEBP", "x.png": "PNG", "x.apng": "PNG", "x.avif": "AVIF"}
# Name -> content of a file that is no picture, and why it is not used.
NO_PICTURES: dict[str, tuple[bytes, str]] = {
    "notes.docx": (b"PK\3\4 a letter", "a document"),
    "notes": (b"remember the milk", "no picture, no clip"),
    "x.svg": (b"<svg/>", "a vector graphic"),
    "x.npz": (b"PK\3\4", "tensors or a table"),
    "x.zip": (b"PK\3\4", "an archive"),
    "empty": (b"", "empty"),
    "random": (np.random.default_rng(0).bytes(4000), "no picture, no clip"),
    "lonely.txt": (b"a caption", "a caption without a picture or clip"),
    "lonely.caption": (b"a caption", "a caption without a picture or clip"),
    "LONELY.TXT": (b"a caption", "a caption without a picture or clip"),
}
# What is meant to be a picture and opens as none is an error, and not only left out.
BROKEN = ("x.png", "x.jpg", "x.avif", "x.heic", "x.tga", "x.JFIF", "x.dng", "x.psd")
SOURCES: dict[str, Callable[[], Image.Image]] = {
    "RGB": lambda: Image.new("RGB", (64, 64), RED),
    "RGBA": lambda: Image.new("RGBA", (64, 64), (*RED, 128)),
    "L": lambda: Image.new("L", (64, 64), 128),
    "LA": lambda: Image.new("LA", (64, 64), (128, 128)),
    "P": lambda: Image.new("RGB", (64, 64), RED).quantize(4),
    "1": lambda: Image.new("1", (64, 64), 1),
    "CMYK": lambda: Image.new("CMYK", (64, 64), (0, 255, 255, 0)),
    "I;16": lambda: Image.new("I;16", (64, 64), 32896),
}
# Mode, profile -> what is seen of it, within a few levels; None: whatever the profile says.
COLOURS: dict[tuple[str, str], tuple[int, int, int] | None] = {
    ("RGB", "none"): RED, ("RGB", "adobe"): (233, 24, 24), ("RGB", "broken"): RED,
    ("RGB", "cut"): RED, ("RGB", "press"): RED, ("RGB", "grey"): RED,
    ("RGBA", "none"): (227, 142, 142), ("RGBA", "adobe"): (244, 139, 139),
    ("P", "adobe"): (233, 24, 24), ("P", "none"): RED,
    ("L", "none"): (128,) * 3, ("L", "grey"): (188,) * 3, ("L", "broken"): (128,) * 3,
    ("LA", "grey"): (221,) * 3, ("I;16", "none"): (128,) * 3, ("I;16", "grey"): (188,) * 3,
    ("CMYK", "press"): None, ("CMYK", "none"): (255, 0, 0), ("CMYK", "broken"): (255, 0, 0),
    ("1", "none"): (255,) * 3,
}  # fmt: skip
PROFILES = {
    "none": None, "adobe": ADOBE, "broken": b"nothing", "cut": ADOBE[:150],
    "press": cmyk_profile(), "grey": gray_profile(1.0),
}  # fmt: skip
NEAR = 4


def _put(write: Callable[[Path], object], name: str, root: Path) -> list[object]:
    """A fifth picture in style folders of four; its caption beside it."""
    path = styles(root) / "photo" / name
    write(path)
    path.with_name(f"{path.name}.txt").write_text("a red ball")
    return check(root)


def _saved(form: str, path: Path) -> None:
    more = {"sizes": [(64, 64)]} if form == "ICO" else {}
    Image.new("RGB", (64, 64), RED).save(path, form, **more)


def _moving(form: str, path: Path) -> None:
    transparent_picture(path, format=form)


def _coloured(mode: str, profile: str, path: Path) -> None:
    SOURCES[mode]().save(path, icc_profile=PROFILES[profile])


def _seen(name: str, wanted: tuple[int, int, int] | None, root: Path, printed: str) -> str | None:
    from byg_train.media.reader import picture_size, read_picture

    if wrong := tuples(5)(root, printed):
        return wrong
    path = root / "photo" / name
    picture = read_picture(path)
    if picture.mode != "RGB" or picture.size != picture_size(path):
        return f"{picture.mode}, {picture.size}, said to be {picture_size(path)}"
    colour = np.asarray(picture)[9, 9].astype(int)
    if wanted is not None and np.abs(colour - wanted).max() > NEAR:
        return f"{colour} is seen, wanted {wanted}"
    return None


def _told_unused(why: str, name: str, root: Path, printed: str) -> str | None:
    told = [f["found"] for f in findings(printed) if f["rule"] == "unused"]
    return None if any(why in t and name in t for t in told) else f"{name} is not told: {told}"


def _beside(name: str, content: bytes, root: Path) -> list[object]:
    (styles(root) / "photo" / name).write_bytes(content)
    return check(root)


def _turned(orientation: int, ending: str, root: Path) -> list[object]:
    def write(path: Path) -> None:
        picture = Image.new("RGB", (80, 64), RED)
        exif = picture.getexif()
        exif[0x0112] = orientation
        picture.save(path, exif=exif)

    return _put(write, f"x{ending}", root)


def _stands(orientation: int, ending: str, root: Path, printed: str) -> str | None:
    from byg_train.media.reader import picture_size, read_picture

    path = root / "photo" / f"x{ending}"
    size = (64, 80) if orientation in (5, 6, 7, 8) else (80, 64)
    if picture_size(path) == read_picture(path).size == size:
        return tuples(5)(root, printed)
    return f"{picture_size(path)} and {read_picture(path).size}, wanted {size}"


def _deep(root: Path) -> list[object]:
    styles(root)
    _put(partial(_saved, "PNG"), "x.png", root)
    for name in ("day", "day/two"):
        folder = root / "photo" / name
        folder.mkdir()
        _saved("JPEG", folder / "y.jpg")
        (folder / "y.txt").write_text("a blue ball")
    return check(root)


def cases() -> Iterator[Case]:
    for name, form in FORMATS.items():
        seen = partial(_seen, name, RED if form not in ("GIF", "JPEG2000", "IM") else None)
        yield Case(f"{form} as {name}", partial(_put, partial(_saved, form), name), holds=seen)
    for name, form in MOVING.items():
        seen = partial(_seen, name, None)
        yield Case(f"a moving {form} as {name}", partial(_put, partial(_moving, form), name),
                   holds=seen)  # fmt: skip
    for name, (content, why) in NO_PICTURES.items():
        yield Case(f"{name}, {why}", partial(_beside, name, content),
                   holds=partial(_told_unused, why, name))  # fmt: skip
    for name in BROKEN:
        for content in (b"", b"a text", np.random.default_rng(1).bytes(500)):
            told = found("unreadable", name)
            lay = partial(_put, partial(Path.write_bytes, data=content), name)
            yield Case(f"{name} of {content[:6]!r}", lay, 1, holds=told)
    for (mode, profile), wanted in COLOURS.items():
        name = "x.tif" if mode == "CMYK" else "x.png"
        lay = partial(_put, partial(_coloured, mode, profile), name)
        yield Case(f"{mode} with profile {profile}", lay, holds=partial(_seen, name, wanted))
    for orientation in range(10):
        for ending in (".jpg", ".png", ".webp"):
            yield Case(f"EXIF {orientation} in {ending}", partial(_turned, orientation, ending),
                       holds=partial(_stands, orientation, ending))  # fmt: skip
    yield Case("pictures in subfolders", _deep, holds=tuples(7))
