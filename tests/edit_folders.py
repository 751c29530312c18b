"""Tasks, true targets and results of two methods on disk, and a judge who always says the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from chat_server import Answer, Asked
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app

NAMES = ("a", "b", "sub/c")


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 16)) -> np.ndarray:
    """A smooth random picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.save(path)
    return np.array(image)


def make_tasks(root: Path) -> None:
    """Three tasks in two groups; a method with all results, and one without the last."""
    rows = []
    for i, name in enumerate(NAMES):
        picture(root / f"tasks/{name}.png", i)
        picture(root / f"truths/{name}.png", i + 20)
        picture(root / f"first/{name}.png", i + 10, (12, 8))  # of another size
        if i < 2:
            picture(root / f"second/{name}.webp", i + 30)
        rows.append({
            "file_name": f"{name}.png", "instruction": f"Do {name}",
            "group": "add" if i else "style", "intersection": i == 0,
            "src_caption": "a red thing", "tgt_caption": "a blue thing on the grass",
        })  # fmt: skip
    (root / "tasks/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def evaluate(*arguments: object) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def score(root: Path, *arguments: object) -> tuple[Result, dict]:
    """Both methods: what the command says, and its JSON."""
    out = root / "out.json"
    done = evaluate(
        "score", root / "first", root / "second", "--sources", root / "tasks",
        "--json", out, "--device", "cpu", *arguments,
    )  # fmt: skip
    return done, json.loads(out.read_text()) if out.exists() else {}


def marks(asked: Asked, before: int) -> Answer:
    """Two pictures: success 8, kept 6; one: 9 and 4."""
    pair = [8, 6] if len(asked.pictures) == 2 else [9, 4]
    return Answer(json.dumps({"score": pair, "reasoning": "so"}))
