"""metadata.jsonl, .csv or .parquet beside the pictures -> rows."""

from __future__ import annotations

import json
from pathlib import Path

from . import DataError, Problem, Row

NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def find_manifest(root: Path) -> Path | None:
    """The folder's manifest, if there is one."""
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{root} holds {names}; keep the one that is meant")
    return found[0] if found else None


def manifest_rows(manifest: Path) -> tuple[list[Row], list[Problem]]:
    """The rows of a manifest, and the lines that cannot be read."""
    if manifest.suffix != ".jsonl":
        return _table_rows(manifest), []
    rows, problems = [], []
    for number, line in enumerate(manifest.read_bytes().split(b"\n"), 1):
        where = f"{manifest.name}:{number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:  # broken JSON or broken UTF-8
            problems.append(Problem(where, f"a broken line ({error})", "one JSON object in UTF-8"))
            continue
        if isinstance(fields, dict):
            rows.append(Row(where, fields))
        else:
            problems.append(Problem(where, f"{line.decode()[:40]!r}", "a JSON object"))
    if not rows and not problems:
        raise DataError(f"{manifest} is empty; wanted one JSON object per line")
    return rows, problems


def _table_rows(manifest: Path) -> list[Row]:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{manifest} needs the datasets package (pip install datasets); "
            "metadata.jsonl needs none"
        ) from None
    read = {".csv": datasets.Dataset.from_csv, ".parquet": datasets.Dataset.from_parquet}
    try:
        table = read[manifest.suffix](str(manifest), keep_in_memory=True)
    except Exception as error:  # whatever its parsers raise
        raise DataError(f"{manifest} cannot be read: {error}") from error
    return [Row(f"{manifest.name}, row {i}", dict(row)) for i, row in enumerate(table, 1)]
