"""One odd input: how it is made, which command meets it, and what must come of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from byg_train.cli.app import app

# What a refusal must not look like.
TRACES = re.compile(r"Traceback|Error\(|\[Errno|object at 0x")


class Case(NamedTuple):
    """An input and its right outcome.

    `lay` writes the input into an empty folder and returns the words of the command. Exit code 0 is
    a right result, 1 a report of errors (`data check`), 2 a refusal in one sentence. `says` are
    words that must be printed; `holds` looks at what was written and returns what is wrong with it.
    """

    name: str
    lay: Callable[[Path], list[object]]
    code: int = 0
    says: tuple[str, ...] = ()
    holds: Callable[[Path, str], str | None] = lambda folder, printed: None


def verdict(case: Case, folder: Path) -> str | None:
    """Try a case in an empty folder; returns what is wrong with the outcome, or None."""
    result = CliRunner().invoke(app, [str(word) for word in case.lay(folder)])
    printed = result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"a traceback: {result.exception!r}"
    if result.exit_code != case.code:
        return f"exit code {result.exit_code}, wanted {case.code}: {printed[-500:]}"
    if trace := TRACES.search(printed):
        return f"it prints {trace[0]!r}: {printed[-500:]}"
    if case.code == 2 and printed.count("error: ") != 1:
        return f"no single sentence: {printed[-500:]}"
    flat = " ".join(printed.split())
    if missing := [words for words in case.says if words not in flat]:
        return f"it does not say {missing[0]!r}: {printed[-500:]}"
    return case.holds(folder, printed)


# ---------------------------------------------------------------- what cases are made of

TEXTS = {
    "src_caption": "a red ball on grass",
    "tgt_caption": "a blue ball on grass",
    "instruction": "Paint the ball blue",
    "reverse_instruction": "Paint the ball red",
}


def picture(path: Path, seed: int = 0, size: int = 64) -> Path:
    """Soft blobs: like a photograph, not like noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def captioned(path: Path, seed: int = 0, caption: str | bytes | None = "a cat on grass") -> Path:
    """A picture with a caption beside it, in whatever bytes."""
    picture(path, seed)
    if caption is not None:
        data = caption if isinstance(caption, bytes) else caption.encode()
        path.with_suffix(".txt").write_bytes(data)
    return path


def styles(root: Path, names: tuple[str, ...] = ("photo", "ink"), each: int = 2) -> Path:
    """Style folders that can be trained on."""
    for i, name in enumerate(names):
        for k in range(each):
            captioned(root / name / f"{k}.png", 10 * i + k, f"a cat on grass {k}")
    return root


def manifest(root: Path, *rows: dict[str, Any] | str, encoding: str = "utf-8") -> Path:
    """metadata.jsonl of whole rows, or of lines as they are."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
    (root / "metadata.jsonl").write_bytes("\n".join(lines).encode(encoding, "surrogatepass"))
    return root


def row(name: str = "a.png", **fields: Any) -> dict[str, Any]:
    """A tuple that can be trained on, with some of its fields changed."""
    return {"file_name": name, **TEXTS, **fields}


def check(root: Path) -> list[object]:
    """The words of `data check`, whose report is JSON."""
    return ["data", "check", root, "--json"]


def findings(printed: str) -> list[dict[str, Any]]:
    """The findings of a report."""
    return json.loads(printed[printed.index("{") :])["findings"]


def found(rule: str, *words: str, times: int | None = None) -> Callable[[Path, str], str | None]:
    """Wants findings of a rule, and their words."""

    def holds(folder: Path, printed: str) -> str | None:
        own = [f for f in findings(printed) if f["rule"] == rule]
        told = " ".join(f"{f['where']} {f['found']} {f['wanted']}" for f in own)
        if not own or (times is not None and len(own) != times):
            return f"{len(own)} findings of {rule!r}: {findings(printed)}"
        lacking = [word for word in words if word not in told]
        return f"{lacking[0]!r} is not in {told!r}" if lacking else None

    return holds


def tuples(number: int) -> Callable[[Path, str], str | None]:
    """Wants a report of so many tuples, none of them wrong."""

    def holds(folder: Path, printed: str) -> str | None:
        report = json.loads(printed[printed.index("{") :])
        if (report["tuples"], report["errors"]) == (number, 0):
            return None
        return f"{report['tuples']} tuples, {report['errors']} errors, wanted {number} and none"

    return holds
