"""The items of a study: results of two methods with the same name, and their source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..data import DataError, Problem
from ..evaluate.tasks import named_files, read_tasks
from ..media import url
from ..media.formats import Formats

# Formats that browsers show, with the type they are served as. A .mov is served as an .mp4.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
VIDEOS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
TYPES = PICTURES | VIDEOS
# Pixel formats of MP4 that every browser decodes: 8 bits, 4:2:0; the second has full range.
PLAYS = ("yuv420p", "yuvj420p")


class Shown(Formats):
    """Files that browsers show, by the ending under which they are served."""

    def holds(self, path: Path) -> bool:
        """Whether a file is one."""
        return path.suffix.lower() in TYPES


SHOWN = Shown("picture or clip", (), "png, jpg, webp, gif, mp4, mov or webm", ".png")


@dataclass(frozen=True)
class Comparison:
    """One comparison: two results of one edit."""

    name: str  # the results' path in either folder, without suffix
    instruction: str
    group: str  # for a table of its own in the report; may be empty
    source: Path
    a: Path
    b: Path

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The three files that are shown."""
        return self.source, self.a, self.b

    def digest(self) -> str:
        """Hash the contents with the instruction: votes belong to exactly these contents."""
        state = hashlib.sha256(self.instruction.encode())
        for path in self.paths:
            state.update(hashlib.sha256(path.read_bytes()).digest())
        return state.hexdigest()


def find_items(a: Path, b: Path, sources: Path, instruction: str | None) -> list[Comparison]:
    """List every comparison by name; DataError with everything that does not fit.

    Args:
        a: folder of one method's results, one file per edit.
        b: folder of the other's, with the same names (suffixes may differ).
        sources: folder of what was edited, with a metadata.jsonl as `read_tasks` wants it.
        instruction: the instruction of every edit, instead of a manifest.
    """
    problems: list[Problem] = []
    results_a, results_b = (named_files(folder, SHOWN, problems) for folder in (a, b))
    edits = read_tasks(sources, SHOWN, instruction, problems)
    for name in sorted(results_a.keys() ^ results_b.keys()):
        here, there = (a, b) if name in results_a else (b, a)
        problems.append(Problem(name, f"only in {here}", f"a result of that name in {there} too"))
    both = sorted(results_a.keys() & results_b.keys())
    for name in (name for name in both if name not in edits):
        problems.append(Problem(name, f"not among the edits of {sources}", "its source"))
    if problems or not both:
        head = f"{a} and {b} cannot be compared"
        raise DataError(head if problems else f"{head}: no {SHOWN.words} in them", problems)
    return [
        Comparison(name, e.instruction, e.group, e.source, results_a[name], results_b[name])
        for name, e in ((name, edits[name]) for name in both)
    ]


def may_not_play(items: list[Comparison]) -> dict[Path, str]:
    """Find MP4s that some browsers, above all on phones, do not play, with their pixel formats."""
    import av

    unplayable = {}
    for path in sorted({path for item in items for path in item.paths}):
        if TYPES[path.suffix.lower()] != "video/mp4":
            continue
        try:
            with av.open(url(path)) as clip:
                pixels = clip.streams.video[0].pix_fmt
        except (av.FFmpegError, IndexError):
            pixels = "nothing that can be read"
        if pixels not in PLAYS:
            unplayable[path] = str(pixels)
    return unplayable
