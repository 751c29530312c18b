"""Names that a manifest and the disk spell differently, and folders of odd names and sizes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.odd.case import (
    Case,
    captioned,
    check,
    findings,
    found,
    manifest,
    picture,
    row,
    styles,
    tuples,
)

NFD, NFC = (partial(unicodedata.normalize, form) for form in ("NFD", "NFC"))
# On disk, in the text.
ALIKE = {
    "é.png": (NFD("é.png"), NFC("é.png")), "é.png, the other way": (NFC("é.png"), NFD("é.png")),
    "한글.png": (NFD("한글.png"), "한글.png"), "が/が.png": (NFD("が/が.png"), "が/が.png"),
    "Cat.JPG": ("Cat.JPG", "cat.jpg"), "INK/a.PNG": ("INK/a.PNG", "ink/A.png"),
    "É.PNG": (NFD("É.PNG"), NFC("é.png")), "a blank in front": (" a.png", "a.png"),
    "a blank behind": ("a.png", "a.png "), "backslashes": ("in/a.png", "in\\a.png"),
    "./ in front": ("in/a.png", "./in/a.png"), "two slashes": ("in/a.png", "in//a.png"),
    "a blank in front on both sides": (" a.png", " a.png"), "percent": ("a%20b.png", "a%20b.png"),
    "a folder with a blank in front": (" in/a.png", " in/a.png"),
}  # fmt: skip
# What is there, what is asked for, what is said.
MISSING = {
    "another ending": (("cat.png",), "cat.jpg", "there is cat.png"),
    "a letter amiss": (("kitten.png",), "kiten.png", "there is kitten.png"),
    "in a folder": (("in/cat.png",), "in/cat.jpeg", "there is in/cat.png"),
    "two that differ in case": (("A.png", "a.PNG"), "a.png", "there are A.png and a.PNG"),
    "nothing alike": (("cat.png",), "zebra.png", "no file zebra.png"),
    "far too long a name": (("cat.png",), "x" * 400 + ".png", "no file"),
    "a NUL": (("cat.png",), "a\0.png", "no file"),
}  # fmt: skip
FOLDERS = (" photo", "photo ", "  two  blanks", "-photo", "#photo", "photo.d", "100%", "fotó",
           NFD("fotó"), "写真", "photo; rm", "a'b", 'a"b', "[x]")  # fmt: skip
SIZES = {
    "40x30": ((40, 30), "enlarged"), "1600x200": ((1600, 200), "cropped"),
    "200x1600": ((200, 1600), "cropped"), "300x300": ((300, 300), "enlarged"),
    "16x4000": ((16, 4000), "cropped"), "512x512": ((512, 512), ""),
    "1024x768": ((1024, 768), ""), "1000x640": ((1000, 640), ""), "8x8": ((8, 8), "too small"),
}  # fmt: skip


def _alike(disk: str, text: str, root: Path) -> list[object]:
    picture(root / "other.png", 2)
    _put(root / disk)
    manifest(root, row(text), row("other.png"))
    return check(root)


def _put(path: Path, seed: int = 1) -> None:
    """A picture whose name may end in anything."""
    made = picture(path.parent / "made.png", seed)
    made.rename(path)


def _used(disk: str, root: Path, printed: str) -> str | None:
    unused = [f["found"] for f in findings(printed) if f["rule"] == "unused"]
    return f"{unused}" if unused else tuples(2)(root, printed)


def _missing(disk: tuple[str, ...], text: str, root: Path) -> list[object]:
    for i, name in enumerate(disk):
        _put(root / name, i)
    manifest(root, row(text), row(disk[0], instruction="another"))
    return check(root)


def _folder(name: str, root: Path) -> list[object]:
    return check(styles(root, (name, "ink")))


def _sized(size: tuple[int, int], root: Path) -> list[object]:
    root.mkdir(exist_ok=True)
    Image.effect_noise(size, 60).convert("RGB").save(root / "a.png")
    manifest(root, row("a.png"))
    return check(root)


def _warned(rule: str, root: Path, printed: str) -> str | None:
    rules = {f["rule"] for f in findings(printed)}
    if rule and rule not in rules:
        return f"no {rule!r}: {findings(printed)}"
    return f"{rules} of a good size" if not rule and rules else None


def _import(name: str, files: tuple[str, ...], root: Path) -> list[object]:
    for i, file in enumerate(files):
        _put(root / "in" / file, i)
        (root / "in" / f"{file}.txt").write_text(f"a ball {i}")
    (root / "in" / "song.mp3").write_bytes(b"ID3")
    (root / "in" / "lonely.txt").write_text("nothing beside it")
    return ["data", "import", root / "in", "--from", name, "--output", root / "out"]


def _imported(number: int, root: Path, printed: str) -> str | None:
    rows = (root / "out/metadata.jsonl").read_text(encoding="utf-8").splitlines()
    if len(rows) != number:
        return f"{len(rows)} imported, wanted {number}"
    wanted = ("lonely.txt", "song.mp3")
    lacking = [name for name in wanted if name not in printed]
    return f"{lacking} are not told: {printed}" if lacking else None


def _hub(disk: str, text: str, root: Path) -> list[object]:
    _put(root / "in" / disk)
    line = json.dumps({"file_name": text, "text": "a ball"})
    (root / "in" / "metadata.jsonl").write_text(line)
    return ["data", "import", root / "in", "--from", "huggingface", "--output", root / "out"]


def _hub_file(root: Path, printed: str) -> str | None:
    copied = [path.name for path in (root / "out").rglob("*.*") if path.suffix != ".jsonl"]
    return None if len(copied) == 1 else f"copied {copied}"


def _captions(root: Path) -> list[object]:
    for i, name in enumerate(("a.jfif", "in/b.avif", "c", "d.gif")):
        _put(root / name, i)
    captioned(root / "e.png", 5)
    (root / "note.docx").write_bytes(b"PK")
    return ["data", "caption", root, "--dry-run"]


def cases() -> Iterator[Case]:
    for name, (disk, text) in ALIKE.items():
        yield Case(f"{name} as the text has it", partial(_alike, disk, text),
                   holds=partial(_used, disk))  # fmt: skip
        yield Case(f"{name} in a set of the hub", partial(_hub, disk, text), holds=_hub_file)
    for name, (disk, text, said) in MISSING.items():
        yield Case(f"not there: {name}", partial(_missing, disk, text), 1, (),
                   found("no file", said))  # fmt: skip
    for name in FOLDERS:
        yield Case(f"style folder {name!r}", partial(_folder, name), holds=tuples(4))
    for name, (size, rule) in SIZES.items():
        yield Case(f"a picture of {name}", partial(_sized, size), 1 if rule == "too small" else 0,
                   holds=partial(_warned, rule))  # fmt: skip
    files = ("a.png", "b.jfif", "c", "sub/d.tga", "sub/deep/e.avif")
    yield Case("ai-toolkit's folder of any files", partial(_import, "ai-toolkit", files),
               holds=partial(_imported, 5))  # fmt: skip
    yield Case("captioning any files", _captions, 0, ("5 of 5 files",))
