"""The caption beside a picture or clip: which file it is in, and what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..text_files import TextFileError, is_blank, read_text
from . import DataError
from .names import folded
from .rule_codes import EMPTY_TEXT, ENCODING, NO_CAPTION, NO_TEXT

# Endings of caption files, in any letter case; of several files the first ending counts.
ENDINGS = (".txt", ".caption")


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
        found = next((names[key] for name in wanted if (key := folded(name)) in names), None)
        exact = next((name for name in wanted if (media.parent / name).is_file()), found)
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
