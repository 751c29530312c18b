"""Read metadata.jsonl, .csv or .parquet into rows, and write rows as metadata.jsonl."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import atomic
from ..text_files import TextFileError, decode, read_text, unprintable
from . import DataError, Problem, Row
from .rule_codes import BROKEN_LINE, CONTROL, ENCODING
from .tables import csv_rows, plain

# Order of the fields in a line; others follow.
FIELDS = (
    "file_name",
    "src_caption",
    "tgt_caption",
    "instruction",
    "reverse_instruction",
    "edit_type",
    "split",
    "repeats",
)
ONE_OBJECT, BLANK = "one JSON object in UTF-8", b" \t"
NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def find_manifest(root: Path) -> Path | None:
    """Find the folder's manifest, if there is one."""
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{root} holds {names}; keep the one that is meant")
    return found[0] if found else None


def manifest_rows(manifest: Path) -> tuple[list[Row], list[Problem]]:
    """Read the rows of a manifest, and report the lines that cannot be read."""
    if manifest.suffix == ".csv":
        return csv_rows(manifest)
    if manifest.suffix != ".jsonl":
        return _parquet_rows(manifest), []
    rows, problems = [], []
    for number, line in enumerate(_lines(manifest), 1):
        where = f"{manifest.name}:{number}"
        if not line.strip(BLANK):
            continue
        try:
            fields = json.loads(decode(line, "it"))
        except TextFileError as error:
            problems.append(Problem(where, f"a broken line ({error})", ONE_OBJECT, ENCODING))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(where, f"a broken line ({error})", ONE_OBJECT, BROKEN_LINE))
        else:
            if not isinstance(fields, dict):
                problems.append(Problem(where, f"{line.decode()[:40]!r}", ONE_OBJECT, BROKEN_LINE))
            elif b"\\ud" in line.lower() and (half := _half(fields)):
                found = f"a broken line (half a character, {half})"
                problems.append(Problem(where, found, ONE_OBJECT, CONTROL))
            else:
                rows.append(Row(where, fields))
    if not rows and not problems:
        raise DataError(f"{manifest} is empty; wanted one JSON object per line")
    return rows, problems


def _half(fields: dict[str, Any]) -> str:
    """The first half of a character, which JSON can write and no text file can hold."""
    return unprintable(json.dumps(fields, ensure_ascii=False))


def _lines(manifest: Path) -> list[bytes]:
    """The lines of a file, each of which may be broken for itself; a file of UTF-16 is whole."""
    data = manifest.read_bytes()
    if b"\0" in data:
        data = read_text(manifest).encode()
    return data.removeprefix(codecs.BOM_UTF8).replace(b"\r", b"\n").split(b"\n")


def manifest_line(fields: Mapping[str, Any]) -> str:
    """Format a tuple as a line of metadata.jsonl; fields without a value are left out."""
    order = {name: fields[name] for name in FIELDS if name in fields}
    known = {name: value for name, value in {**order, **fields}.items() if value is not None}
    return json.dumps(known, ensure_ascii=False, default=str)


def write_manifest(root: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write tuples as the folder's metadata.jsonl, atomically; an existing one becomes .bak."""
    return write_lines(root / NAMES[0], map(manifest_line, rows))


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Replace the lines of a text file atomically; the old file is kept beside it as .bak."""
    with atomic(path) as temporary:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        if path.exists():
            with atomic(path.with_name(f"{path.name}.bak")) as backup:
                shutil.copyfile(path, backup)
    return path


def _parquet_rows(manifest: Path) -> list[Row]:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{manifest} needs the datasets package (pip install datasets); "
            "metadata.jsonl needs none"
        ) from None
    try:
        table = datasets.Dataset.from_parquet(str(manifest), keep_in_memory=True)
    except Exception as error:  # whatever its parsers raise
        raise DataError(f"{manifest} cannot be read: {error}") from error
    return [Row(f"{manifest.name}, row {i}", plain(row)) for i, row in enumerate(table, 1)]
