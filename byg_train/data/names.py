"""Finding files by what people call them: the file that a text names, the caption beside a file.

macOS keeps accents in two letters (NFD) where texts have one (NFC), Windows and macOS do not tell
`Cat.JPG` from `cat.jpg`, and tables come with blanks around their cells.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from ..text_files import TextFileError, is_blank, read_text
from . import DataError
from .rule_codes import EMPTY_TEXT, ENCODING, NO_CAPTION, NO_TEXT

# How alike two names are, from 0 to 1, of which one may be meant by the other.
NEAR = 0.65
# Endings of caption files, in any letter case; of several files the first ending counts.
ENDINGS = (".txt", ".caption")


class Named(NamedTuple):
    """What a name stands for."""

    name: str | None  # of the file, relative to its folder, with forward slashes; None: no one file
    instead: str = ""  # without one: what may have been meant, as the end of a sentence


class FileNames:
    """The files of one folder by what texts call them; each folder inside is listed once."""

    def __init__(self, root: Path) -> None:
        self.root, self._base = root, root.resolve()
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> Named:
        """The file of a relative name: as it is spelled, or else of the one that reads alike."""
        spellings = [name, name.strip(), name.strip().replace("\\", "/")]
        inside = [path.relative_to(self._base) for path in map(self.place, spellings) if path]
        if there := next((path for path in inside if is_file(self.root / path)), None):
            return Named(there.as_posix())
        if not inside:
            return Named(None)
        parts = inside[-1].parts
        paths = [Path()]
        for part in parts:
            alike = [folder / other for folder in paths for other in self._alike(folder, part)]
            if not alike:
                return Named(None, self._nearest(paths[0], part))
            paths = alike
        files = [path for path in paths if (self.root / path).is_file()]
        if len(files) == 1:
            return Named(files[0].as_posix())
        names = " and ".join(sorted(path.as_posix() for path in files))
        return Named(None, f": there are {names}" if files else "")

    def place(self, name: str) -> Path | None:
        """Where a name is, as it is spelled; None for one that leads out of the folder."""
        parts = {*Path(name).parts, *PureWindowsPath(name).parts}
        path = self._base / name
        return None if ".." in parts or not path.is_relative_to(self._base) else path

    def _alike(self, folder: Path, part: str) -> list[str]:
        if folder not in self._listed:
            alike: dict[str, list[str]] = {}
            try:
                names = sorted(path.name for path in (self.root / folder).iterdir())
            except OSError:  # a file, or not to be read
                names = []
            for name in names:
                alike.setdefault(folded(name), []).append(name)
            self._listed[folder] = alike
        return self._listed[folder].get(folded(part), [])

    def _nearest(self, folder: Path, part: str) -> str:
        """The file of nearly that name: a wrong ending, a letter amiss."""
        known = [name for names in self._listed[folder].values() for name in names]
        stem = folded(Path(part).stem)
        if same := [name for name in known if folded(Path(name).stem) == stem]:
            return f"; there is {(folder / same[0]).as_posix()}"
        close = get_close_matches(stem, [folded(Path(name).stem) for name in known], 1, NEAR)
        meant = next((n for n in known if close and folded(Path(n).stem) == close[0]), None)
        return f"; there is {(folder / meant).as_posix()}" if meant else ""


def leads_out(name: str) -> bool:
    """Whether a name leads out of the folder that it counts from, on any system."""
    path, windows = Path(name), PureWindowsPath(name)
    return ".." in {*path.parts, *windows.parts} or path.is_absolute() or bool(windows.drive)


def is_file(path: Path) -> bool:
    """Whether there is such a file; also of names that no system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def folded(name: str) -> str:
    """Map names that differ in letter case, composed accents or blanks around to the same text."""
    return unicodedata.normalize("NFC", name).casefold().strip()


class CaptionError(DataError):
    """A caption that cannot be read: what was found, and the code of the rule that it breaks."""

    def __init__(self, found: str, rule: str) -> None:
        super().__init__(found)
        self.found, self.rule = found, rule


class Captions:
    """Finds and reads captions; every folder is listed once."""

    def __init__(self, endings: Sequence[str] = ENDINGS) -> None:
        """`endings` of caption files, with the dot; of `.json` files the field `caption` counts."""
        self.endings = endings
        self._listed: dict[Path, dict[str, str]] = {}

    def file(self, media: Path) -> Path | None:
        """The caption file of `cat.png`: `cat.txt`, `cat.TXT` or `cat.png.txt`, and so on."""
        names = self._names(media.parent)
        wanted = [stem + e for stem in (media.stem, media.name) for e in self.endings]
        folded_name = next((names[key] for name in wanted if (key := folded(name)) in names), None)
        exact = next((name for name in wanted if (media.parent / name).is_file()), folded_name)
        return media.parent / exact if exact else None

    def read(self, media: Path) -> str:
        """The caption on one line; raises CaptionError."""
        path = self.file(media)
        if path is None:
            raise CaptionError("no caption", NO_CAPTION)
        try:
            text = read_text(path)
        except TextFileError as error:
            raise CaptionError(str(error).replace(str(path), path.name, 1), ENCODING) from None
        if path.suffix.lower() == ".json":
            text = _field(text, path.name)
        if is_blank(text):
            raise CaptionError(f"{path.name} is empty", EMPTY_TEXT)
        return " ".join(text.split())

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            names = sorted((path.name for path in folder.iterdir()), reverse=True)
            self._listed[folder] = {folded(name): name for name in names}
        return self._listed[folder]


def _field(text: str, name: str) -> str:
    try:
        caption = json.loads(text)["caption"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise CaptionError(f"{name} has no field 'caption'", NO_CAPTION) from None
    if not isinstance(caption, str):
        raise CaptionError(f"{name} says {str(caption)[:40]!r} as caption", NO_TEXT)
    return caption
