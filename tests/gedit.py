"""GEdit-Bench's published layout, with three tasks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TASKS = ("background_change", "subject-add", "text_change")


def picture_bytes(seed: int, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def gedit_folder(root: Path) -> Path:
    """Three tasks in two languages, in two files of the published layout."""
    rows = []
    for i, task in enumerate(TASKS):
        for language in ("en", "cn"):
            rows.append({
                "task_type": task,
                "key": f"key{i}",
                "instruction": f"{language} {task}",
                "instruction_language": language,
                "input_image": {"bytes": picture_bytes(i, "jpeg" if i else "png"), "path": None},
                "input_image_raw": {"bytes": picture_bytes(i + 9), "path": None},
                "Intersection_exist": i != 2,
            })  # fmt: skip
    (root / "data").mkdir(parents=True)
    for number in range(2):
        table = pa.Table.from_pylist(rows[number * 3 : number * 3 + 3])
        pq.write_table(table, root / "data" / f"train-0000{number}-of-00002.parquet")
    return root
