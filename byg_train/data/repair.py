"""Repair what is mechanical in a metadata.jsonl, without changing what a text says."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from ..text_files import TextFileError, read_text
from .manifest import manifest_line, write_lines
from .names import FileNames
from .rows import TEXTS

# Names that other tools give the two splits.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "val", "valid", "validation", "dev", "eval"), "test"),
}


def repair(manifest: Path) -> Counter[str]:
    """Rewrite a metadata.jsonl and keep the old one as .bak; returns each repair and its count.

    Lines that need no repair, and lines that are no JSON object, stay byte for byte.
    """
    done: Counter[str] = Counter()
    lines: list[str] = []
    seen: set[tuple] = set()
    text, files = _text(manifest), FileNames(manifest.parent)
    for line in filter(str.strip, text.split("\n")):
        fields = _parsed(line)
        if fields is None:
            lines.append(line)
            continue
        better = _repaired(fields, files, done)
        key = tuple(str(better.get(name)) for name in ("file_name", *TEXTS))
        if key in seen:
            done["removed: the same tuple again"] += 1
            continue
        seen.add(key)
        lines.append(line if better == fields else manifest_line(better))
    if done:
        write_lines(manifest, lines)
    return done


def _text(manifest: Path) -> str:
    """The whole file; of lines in a wrong encoding the bytes are kept."""
    try:
        return read_text(manifest)
    except TextFileError:
        return manifest.read_bytes().decode("utf-8-sig", errors="surrogateescape")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _repaired(fields: dict[str, Any], files: FileNames, done: Counter[str]) -> dict[str, Any]:
    better = dict(fields)

    def put(name: str, value: Any, what: str) -> None:
        if value != better[name]:
            better[name] = value
            done[what] += 1

    for name in (n for n in TEXTS if isinstance(better.get(n), str)):
        text = unicodedata.normalize("NFC", better[name])
        put(name, " ".join(text.split()), "tidied: blanks and accents of a text")
    if isinstance(better.get("edit_type"), str):
        put("edit_type", better["edit_type"].strip().lower(), "tidied: an edit type")
    if isinstance(name := better.get("file_name"), str):
        put("file_name", files.find(name).name or name, "tidied: a file name")
    if isinstance(part := better.get("split"), str):
        put("split", SPLIT_NAMES.get(part.strip().lower(), part), "renamed: a split")
    if isinstance(times := better.get("repeats"), str) and times.strip().isdecimal():
        put("repeats", int(times), "made a number: repeats")
    return better
