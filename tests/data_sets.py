"""Small data folders of pictures with a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TEXTS = {
    "src_caption": "a red ball on grass",
    "tgt_caption": "a blue ball on grass",
    "instruction": "Paint the ball blue",
    "reverse_instruction": "Paint the ball red",
}


def save(path: Path, seed: int = 0, size: int = 64) -> Path:
    """A picture of soft blobs: like a photograph, not like noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"file_name": name, **TEXTS, **fields}


def manifest(root: Path, *rows: dict[str, Any] | str) -> None:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def rows(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
