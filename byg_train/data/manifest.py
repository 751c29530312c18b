"""Read metadata.jsonl, .csv or .parquet into rows, and write rows as metadata.jsonl."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import nearest
from ..files import atomic, keep_as_bak
from ..text_files import TextFileError, decode, read_text, unprintable
from . import DataError, Problem, Row
from .rule_codes import BROKEN_LINE, CONTROL, ENCODING

TEXTS = ("src_caption", "tgt_caption", "instruction", "reverse_instruction")
# Order of the fields in a line; others follow.
FIELDS = ("file_name", *TEXTS, "edit_type", "split", "repeats")
# Columns that may hold a plain caption, best first.
CAPTIONS = ("src_caption", "caption", "text")
ONE_OBJECT, BLANK = "one JSON object in UTF-8", b" \t"
NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def find_manifest(root: Path) -> Path | None:
    """Find the folder's manifest, if there is one."""
    manifests = [root / name for name in NAMES if (root / name).is_file()]
    if len(manifests) > 1:
        names = " and ".join(path.name for path in manifests)
        raise DataError(f"{root} holds {names}; keep the one that is meant")
    return manifests[0] if manifests else None


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
    """Replace the lines of a text file atomically; the old file is kept beside it as .bak.

    A .bak that is there already stays, too, under the first number that is free.
    """
    with atomic(path) as temporary:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        if path.exists():
            keep_as_bak(path)
    return path


# ---------------------------------------------------------------- tables

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NAMED, NUMBERS = "file_name", ("repeats",)
# Rows of a parquet file that are in memory at once; each may hold a picture.
AT_ONCE = 16
# The first line by which Excel tells itself the delimiter.
EXCEL = re.compile(r"sep=(.)\r?\n")
# A field may be as long as a text of a book.
csv.field_size_limit(1 << 24)


class Parquet:
    """A parquet file, of which a few rows at a time are in memory; DataError if it is none."""

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DataError(f"{path} needs the pyarrow package: pip install pyarrow") from None
        try:
            self._file = ParquetFile(path)
        except ArrowException as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        self.columns: list[str] = self._file.schema_arrow.names

    def rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield every row, of some columns or all."""
        for batch in self._file.iter_batches(AT_ONCE, columns=columns):
            yield from batch.to_pylist()


def _parquet_rows(manifest: Path) -> list[Row]:
    rows = enumerate(Parquet(manifest).rows(), 1)
    return [Row(f"{manifest.name}, row {i}", plain(row)) for i, row in rows]


def csv_rows(manifest: Path) -> tuple[list[Row], list[Problem]]:
    """The rows of a CSV file, texts as they stand, and what is wrong with the others."""
    text = read_text(manifest)
    mark = EXCEL.match(text)
    text = text[mark.end() :] if mark else text
    first = next(filter(str.strip, text.splitlines()), "")
    delimiter = mark[1] if mark else max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, problems, names = [], [], None
    try:
        for cells in reader:
            where = f"{manifest.name}, row {len(rows) + len(problems) + 1}"
            if not any(map(str.strip, cells)):
                continue
            if names is None:
                names = _header(cells, manifest, delimiter)
            elif len(cells) == len(names):
                rows.append(Row(where, _fields(dict(zip(names, cells, strict=True)))))
            else:
                found = f"{len(cells)} cells between {DELIMITERS.get(delimiter, delimiter)}"
                wanted = f"{len(names)}, as in the header; texts with {delimiter!r} stand in quotes"
                problems.append(Problem(where, found, wanted, BROKEN_LINE))
    except csv.Error as error:
        raise DataError(f"{manifest}, line {reader.line_num}: {error}; is a quote open?") from None
    if not rows and not problems:
        raise DataError(
            f"{manifest} has no rows; wanted a header with {NAMED}, and a row per tuple"
        )
    return rows, problems


def _header(cells: list[str], manifest: Path, delimiter: str) -> list[str]:
    names = [name.strip() for name in cells]
    if NAMED not in names:
        between = DELIMITERS.get(delimiter, delimiter)
        raise DataError(
            f"{manifest} has no column {NAMED}{nearest(NAMED, names)} (between {between}, its "
            f"columns are {', '.join(names)})"
        )
    if twice := [name for name, number in Counter(names).items() if number > 1 and name]:
        raise DataError(f"{manifest} has the column {twice[0]!r} more than once")
    return names


def _fields(cells: Mapping[str, str]) -> dict[str, Any]:
    """A cell without anything is no field; `repeats` is a number, all else a text."""
    filled = {name: cell for name, cell in cells.items() if name and cell.strip()}
    return plain(
        {name: _number(cell) if name in NUMBERS else cell for name, cell in filled.items()}
    )


def _number(cell: str) -> float | str:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return cell


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as they were meant: a column of whole ones with gaps is kept as 2.0 and NaN."""
    fields = dict(row)
    for name in NUMBERS:
        value = fields.get(name)
        if isinstance(value, float):
            fields[name] = None if math.isnan(value) else int(value) if value % 1 == 0 else value
    return fields
