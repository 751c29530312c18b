"""Finding the file that a text names, where spelling and disk differ in what people do not see.

macOS keeps accents in two letters (NFD) where texts have one (NFC), Windows and macOS do not tell
`Cat.JPG` from `cat.jpg`, and tables come with blanks around their cells.
"""

from __future__ import annotations

import unicodedata
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

# How alike two names are, from 0 to 1, of which one may be meant by the other.
NEAR = 0.65


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
        inside = [path for path in map(self._inside, spellings) if path]
        if there := next((path for path in inside if is_file(self.root / path)), None):
            return Named(there.as_posix())
        if not inside:
            return Named(None)
        parts = inside[-1].parts
        found = [Path()]
        for part in parts:
            alike = [folder / other for folder in found for other in self._alike(folder, part)]
            if not alike:
                return Named(None, self._nearest(found[0], part))
            found = alike
        files = [path for path in found if (self.root / path).is_file()]
        if len(files) == 1:
            return Named(files[0].as_posix())
        names = " and ".join(sorted(path.as_posix() for path in files))
        return Named(None, f": there are {names}" if files else "")

    def _inside(self, name: str) -> Path | None:
        """Relative to the folder; None for a name that leads out of it."""
        path = self._base / name
        if ".." in path.parts or not path.is_relative_to(self._base):
            return None
        return path.relative_to(self._base)

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


def is_file(path: Path) -> bool:
    """Whether there is such a file; also of names that no system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def folded(name: str) -> str:
    """The same for names that differ in letter case, in composed accents or in blanks around."""
    return unicodedata.normalize("NFC", name).casefold().strip()
