"""The files of a data folder, what is known about them, and the tuples written back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...media.formats import CLIPS, MEDIA, look
from .. import DataError, Problem, Row, counted
from ..manifest import CAPTIONS, find_manifest, manifest_line, manifest_rows, write_manifest
from ..media_kind import found_kind, visible_files
from ..names import CaptionError, Captions
from ..rows import TEXTS, data_folder, on_disk
from ..rule_codes import EMPTY_TEXT, NO_CAPTION, NO_TEXT
from ..styles import restyled, style_words
from ..unused import unused_beside
from .edit_types import is_photo
from .journal import Journal

# The styles of appendix D.2.
CLIP_STYLES = ["cartoon", "photo-realistic"]

# The fields of one line of metadata.jsonl.
Tuple = dict[str, str]


class Source(NamedTuple):
    """A picture or a clip, with what its folder says about it."""

    name: str  # relative to the data folder, with forward slashes
    path: Path
    size: int  # bytes
    caption: str  # "" if unknown
    style: str  # "" if unknown
    is_clip: bool = False


class Folder:
    """A data folder: its files, and the rows of its metadata.jsonl if it has one."""

    def __init__(self, root: Path, style_folders: bool) -> None:
        """`style_folders`: the folders in `root` are named after the style of their files."""
        self.root = data_folder(root)
        self.rows = _rows(root)
        given: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            given.setdefault(_file_name(row.fields), row.fields)
        self._described = {name for name, fields in given.items() if _is_tuple(fields)}
        self.problems: list[Problem] = []
        self.sources = list(self._find(given, style_folders))
        names = [source.name for source in self.sources]
        self.unused = unused_beside(root, names, CLIPS)
        if not self.sources:
            nothing = f"{root} holds no pictures and no clips ({MEDIA.words})"
            raise DataError(nothing, self.problems)

    def to_ask(self, journal: Journal) -> list[Source]:
        """All files except those that metadata.jsonl already described before any model did."""
        return [s for s in self.sources if s.name not in self._described or journal.holds(s.name)]

    def write(self, new: dict[str, list[Tuple]], stale: dict[str, list[Tuple]]) -> int:
        """Update metadata.jsonl if anything is new; returns the number of its tuples.

        Rows that are tuples stay as they are, since someone may have corrected them, unless we
        wrote them about a file that was replaced since: these are `stale`, by file name as `new`
        is. Other rows become tuples.
        """
        new, rows = dict(new), []
        for row in self.rows:
            name = _file_name(row.fields)
            if any(old.items() <= row.fields.items() for old in stale.get(name, ())):
                continue
            if _is_tuple(row.fields) or name not in new:
                rows.append(row.fields)
            else:
                rows += [{**row.fields, **fields} for fields in new.pop(name)]
        named = {_file_name(row) for row in rows}
        rows += [row for name in sorted(new.keys() - named) for row in new[name]]
        before = [manifest_line(row.fields) for row in self.rows]
        if [manifest_line(row) for row in rows] != before:
            write_manifest(self.root, rows)
        return sum(map(_is_tuple, rows))

    def _find(self, given: dict[str, dict[str, Any]], style_folders: bool) -> Iterator[Source]:
        captions, unread = Captions(), []
        # A picture that moves is what the files around it are.
        moving = ("clip", "animation") if found_kind(self.root) is CLIPS else ("clip",)
        for path in visible_files(self.root):
            if not MEDIA.holds(path):
                continue
            name = path.relative_to(self.root).as_posix()
            if not name.isprintable():
                found = f"the name {name!r}"
                self.problems.append(
                    Problem(str(self.root), found, "one that a text can hold", NO_TEXT)
                )
                continue
            fields = given.get(name, {})
            try:
                caption = _caption(path, {} if name in self._described else fields, captions)
            except CaptionError as error:
                caption = ""
                if error.rule not in (NO_CAPTION, EMPTY_TEXT):
                    wanted = "a caption to go by, or no such file"
                    unread.append(Problem(name, error.found, wanted, error.rule))
            folder = name.partition("/")[0] if style_folders and "/" in name else ""
            yield Source(
                name,
                path,
                path.stat().st_size,
                caption,
                str(fields.get("style") or folder).strip(),
                look(path).sort in moving,
            )
        if unread:  # before a question is paid for
            number = counted(len(unread), "caption")
            raise DataError(f"{number} in {self.root} cannot be read; repair them first", unread)


class ClipStyles:
    """The styles that clips are turned into, with their texts."""

    def __init__(self, root: Path, wanted: list[str], clips: list[Source]) -> None:
        """`wanted`: styles in addition to those that the clips are known to have."""
        known = sorted({clip.style for clip in clips if clip.style})
        more = wanted or (CLIP_STYLES if len(known) < 2 else [])
        self.names = [*known, *(name for name in more if not _same(name, known))]
        if len(self.names) < 2:
            raise DataError(f"clips need two styles or more; found only {', '.join(self.names)}")
        if slashed := [name for name in self.names if Path(name).name != name]:
            raise DataError(f"{slashed[0]!r} cannot name a style: it would be two folders")
        self._styles = {name: style_words(root, name, None, CLIPS) for name in self.names}
        phrases = Counter(style.phrase for style in self._styles.values())
        if twice := [phrase for phrase, number in phrases.items() if number > 1]:
            raise DataError(f"{phrases[twice[0]]} styles of clips are called {twice[0]!r}")

    def tuples(self, name: str, caption: str, style: str) -> list[Tuple]:
        """Make a clip's tuples, one for each other style (appendix D.2, step 3)."""
        now = self._styles[style]
        return [restyled(name, caption, now, to) for to in self._styles.values() if to is not now]


def _same(name: str, known: list[str]) -> bool:
    """Whether a style is known already, perhaps under another name."""
    return name in known or (is_photo(name) and any(map(is_photo, known)))


def _rows(root: Path) -> list[Row]:
    manifest = find_manifest(root)
    if manifest is None:
        return []
    if manifest.suffix != ".jsonl":
        raise DataError(f"{manifest} is there, and captions go to metadata.jsonl; convert it first")
    rows, problems = manifest_rows(manifest)
    if problems:
        raise DataError(f"{manifest} has lines that cannot be read; repair them first", problems)
    return on_disk(rows, root)


def _file_name(fields: dict[str, Any]) -> str:
    return str(fields.get("file_name", ""))


def _is_tuple(fields: dict[str, Any]) -> bool:
    return all(isinstance(text := fields.get(n), str) and text.strip() for n in TEXTS)


def _caption(path: Path, fields: dict[str, Any], captions: Captions) -> str:
    """Read a caption from the manifest, or from the file beside it; raises CaptionError."""
    for column in CAPTIONS:
        if isinstance(text := fields.get(column), str) and text.strip():
            return " ".join(text.split())
    return captions.read(path)
