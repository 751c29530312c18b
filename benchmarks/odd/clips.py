"""Clips as people have them: any codec and name, turned, mirrored, transparent, cut, torn."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.odd.case import Case, captioned, findings, found, tuples
from benchmarks.odd.media import coloured, cut, moving, show_by, transparent, transparent_picture

# Name -> codec, container.
FORMATS = {
    "x.vob": ("mpeg2video", "vob"), "x.asf": ("wmv2", "asf"), "x.m2v": ("mpeg2video", "mpeg2video"),
    "x.qt": ("libx264", "mov"), "x.3gp": ("libx264", "3gp"), "x.flv": ("flv", "flv"),
    "x.nut": ("ffv1", "nut"), "x.mjpeg": ("mjpeg", "mjpeg"), "x.m2ts": ("libx264", "mpegts"),
    "x.mpg": ("mpeg2video", "mpeg"), "x.avi": ("mpeg4", "avi"), "x.f4v": ("libx264", "f4v"),
    "x.ivf": ("libvpx-vp9", "ivf"), "x.y4m": ("wrapped_avframe", "yuv4mpegpipe"),
    "x.h264": ("libx264", "h264"), "x.wmv": ("wmv2", "asf"),
    # Under a wrong name, or none.
    "noending": ("libx264", "mp4"), "no.12 ending": ("libx264", "matroska"),
    "x.png": ("libx264", "mp4"), "x.mp4": ("libvpx-vp9", "webm"), "x.mp4.part": ("libx264", "mp4"),
    "x.ogg": ("libx264", "matroska"), "x.dat": ("mpeg2video", "mpeg"), "X.MOV": ("libx264", "mov"),
}  # fmt: skip
NAMES = (
    "12:30:45.mp4", "-loud.mp4", " blank.mp4", "100%d.mp4", "concat:a|b.mp4", "pipe:0.mp4",
    "q?x=1#y.mp4", "naïve 🎬.mp4", "file:a.mp4", "[a]*.mp4", "a'b\"c.mp4", "http:x.mp4",
)  # fmt: skip
MATRICES = {
    "as stored": (1, 0, 0, 1), "mirrored": (-1, 0, 0, 1), "turned by 180": (-1, 0, 0, -1),
    "upside down": (1, 0, 0, -1), "transposed": (0, 1, 1, 0), "turned right": (0, 1, -1, 0),
    "transposed the other way": (0, -1, -1, 0), "turned left": (0, -1, 1, 0),
    "of noughts": (0, 0, 0, 0), "turned by 45": (1, 1, -1, 1), "half of one": (0, 1, 0, 0),
}  # fmt: skip
CLEAR = {
    "x.webm": ("libvpx-vp9", "yuva420p"), "x.mkv": ("libvpx-vp9", "yuva420p"),
    "x.mov": ("prores_ks", "yuva444p10le"), "rle.mov": ("qtrle", "argb"),
    "png.mov": ("png", "rgba"), "x.avi": ("utvideo", "gbrap"),
}  # fmt: skip
MOVING = {"x.gif": "GIF", "x.webp": "WEBP", "x.png": "PNG", "x.apng": "PNG", "x.avif": "AVIF"}
CUT = {
    "x.mkv": "libx264", "x.ts": "libx264", "x.mp4": "libx264", "m2.ts": "mpeg2video",
    "x.mpg": "mpeg2video", "m4.mkv": "mpeg4", "vp9.mkv": "libvpx-vp9",
}  # fmt: skip
BROKEN = ("x.mp4", "x.mov", "x.VOB", "x.webm", "x.ts", "x.gif")
NEAR = 8


def _words(root: Path) -> list[object]:
    return ["data", "check", root, "--preset", "demo_video", "--json"]


def _styles(root: Path) -> Path:
    """Two styles with a clip each, of which the first is for other clips to join."""
    for i, name in enumerate(("photo", "ink")):
        (root / name).mkdir(parents=True)
        shutil.copyfile(_plain(i), root / name / "0.mp4")
        (root / name / "0.txt").write_text(f"a square moves {i}")
    return root


@cache
def _plain(i: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="odd-clips-"))
    return moving(folder / "0.mp4", size=(64 + 16 * i, 48))


def _put(write: Callable[[Path], object], name: str, root: Path) -> list[object]:
    path = _styles(root) / "photo" / name
    write(path)
    path.with_name(f"{path.name}.txt").write_text("a ball rolls")
    return _words(root)


def _written(codec: str, form: str, path: Path) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    moving(path, codec, form, pixels=pixels, frames=36)


def _named(path: Path) -> None:
    shutil.copyfile(_plain(2), path)


def _shown(matrix: tuple[int, int, int, int], path: Path) -> None:
    show_by(moving(path), matrix)


def _cut(codec: str, path: Path) -> None:
    whole = moving(path.with_name(f"whole.{path.name}"), codec, frames=40, size=(80, 48))
    cut(whole, path, 11)
    whole.unlink()


def _torn(share: float, options: dict[str, str], path: Path) -> None:
    moving(path, frames=60, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def _read(name: str, root: Path, printed: str) -> str | None:
    """All frames, of the size that was said."""
    from byg_train.media.clips import frames, probe

    if wrong := tuples(3)(root, printed):
        return wrong
    path = root / "photo" / name
    facts, shown = probe(path), list(frames(path))
    sizes = {frame.shape for frame in shown}
    if (len(shown), sizes) == (facts.frames, {(facts.height, facts.width, 3)}):
        return None
    return f"{len(shown)} frames {sizes}, said {facts.frames} of {facts.width} x {facts.height}"


def _seen(
    name: str, wanted: dict[tuple[int, int], tuple[int, int, int]], root: Path, printed: str
) -> str | None:
    from byg_train.media.clips import frames

    if wrong := _read(name, root, printed):
        return wrong
    for frame in frames(root / "photo" / name):
        for at, colour in wanted.items():
            if np.abs(frame[at].astype(int) - colour).max() > NEAR:
                return f"{frame[at]} at {at}, wanted {colour}"
    return None


def _told(rule: str, name: str, root: Path, printed: str) -> str | None:
    own = [f for f in findings(printed) if f["rule"] == rule and f["file_name"].endswith(name)]
    return _read(name, root, printed) if own else f"no {rule!r} of {name}: {findings(printed)}"


def _stored(root: Path) -> list[object]:
    _styles(root)
    captioned(root / "photo" / "0.png")
    captioned(root / "photo" / "other.png")
    return _words(root)


def cases() -> Iterator[Case]:
    for name, (codec, form) in FORMATS.items():
        yield Case(f"{codec} as {name}", partial(_put, partial(_written, codec, form), name),
                   holds=partial(_read, name))  # fmt: skip
    for name in NAMES:
        yield Case(f"called {name}", partial(_put, _named, name), holds=partial(_read, name))
    for name, matrix in MATRICES.items():
        yield Case(f"display matrix {name}", partial(_put, partial(_shown, matrix), "x.mp4"),
                   holds=partial(_read, "x.mp4"))  # fmt: skip
    for matrix in (1, 2, 5, 6, 9):
        for full in (False, True):
            lay = partial(_put, partial(coloured, matrix=matrix, full=full, frames=24), "x.mp4")
            kind = f"matrix {matrix}, {'full' if full else 'video'} range"
            yield Case(kind, lay, holds=partial(_seen, "x.mp4", {(9, 9): (200, 30, 30)}))
    grounds = {(10, 10): (200, 30, 30), (10, 60): (255, 255, 255)}
    for name, (codec, pixels) in CLEAR.items():
        write = partial(transparent, codec=codec, pixels=pixels, frames=24)
        yield Case(f"clear {codec} as {name}", partial(_put, write, name),
                   holds=partial(_seen, name, grounds))  # fmt: skip
    for name, form in MOVING.items():
        exact = {"lossless": True} if form == "WEBP" else {"disposal": 2} if form == "GIF" else {}
        write = partial(transparent_picture, frames=24, format=form, **exact)
        yield Case(f"a moving {form} as {name}", partial(_put, write, name),
                   holds=partial(_seen, name, grounds))  # fmt: skip
    for name, codec in CUT.items():
        yield Case(f"{codec} in {name}, cut off a key frame",
                   partial(_put, partial(_cut, codec), name),
                   holds=partial(_told, "cut", name))  # fmt: skip
    yield from _broken()
    found_other = found("unused", "photo/other.png", "clips are used")
    yield Case("pictures among clips, one of them a clip's own", _stored, holds=found_other)


def _broken() -> Iterator[Case]:
    for share in (0.3, 0.8):
        for name, options in {"x.mp4": {}, "front.mp4": {"movflags": "faststart"}}.items():
            lay = partial(_put, partial(_torn, share, options), name)
            yield Case(f"{name} of which {share:.0%} are left", lay, 1, (),
                       found("unreadable", name))  # fmt: skip
    for name in BROKEN:
        for content in (b"", b"a text", np.random.default_rng(2).bytes(500)):
            lay = partial(_put, partial(Path.write_bytes, data=content), name)
            yield Case(f"{name} of {content[:6]!r}", lay, 1, (), found("unreadable", name))
