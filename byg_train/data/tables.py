"""Tables of tuples: CSV as spreadsheets write it, and numbers as they were meant."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import nearest
from ..text_files import read_text
from . import DataError, Problem, Row
from .rule_codes import BROKEN_LINE

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NAMED, NUMBERS = "file_name", ("repeats",)
# The first line by which Excel tells itself the delimiter.
EXCEL = re.compile(r"sep=(.)\r?\n")
# A field may be as long as a text of a book.
csv.field_size_limit(1 << 24)


def csv_rows(manifest: Path) -> tuple[list[Row], list[Problem]]:
    """The rows of a CSV file, texts as they stand, and what is wrong with the others."""
    text = read_text(manifest)
    told = EXCEL.match(text)
    text = text[told.end() :] if told else text
    first = next(filter(str.strip, text.splitlines()), "")
    delimiter = told[1] if told else max(DELIMITERS, key=first.count)
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
