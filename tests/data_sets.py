"""Small data folders of pictures with a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.odd.case import TEXTS
from benchmarks.odd.case import picture as save

__all__ = ["TEXTS", "manifest", "row", "rows", "save"]


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"file_name": name, **TEXTS, **fields}


def manifest(root: Path, *rows: dict[str, Any] | str) -> None:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def rows(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
