"""What a run measured: one JSON line a record, and the same numbers for tensorboard and wandb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_text

if TYPE_CHECKING:
    from accelerate import Accelerator


METRICS = "metrics.jsonl"


class Metrics:
    """`metrics.jsonl` of a run, mirrored to accelerate's trackers."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self.path, self.accelerator = path, accelerator
        accelerator.init_trackers("logs")

    def write(self, record: dict) -> None:
        """Append a record, in the main process; it must have a `step` and a `kind`."""
        if not self.accelerator.is_main_process:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        # A name for each kind: the identity loss of training is not that of held-out items.
        own = ("validation", "gradients", "source")
        kind = record["kind"] if record["kind"] in own else "train"
        numbers = {f"{kind}/{k}": v for k, v in record.items() if isinstance(v, float)}
        self.accelerator.log(numbers, step=record["step"])

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a record of a kind of this step."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        records = (json.loads(line) for line in lines)
        return any((r["kind"], r["step"]) == (kind, step) for r in records)

    def forget_after(self, step: int) -> None:
        """Drop the records of steps that a resumed run takes again."""
        if self.accelerator.is_main_process and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            # A kill or a full disk may have cut the last line short.
            whole = [line for line in lines if line.endswith("}\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            write_text(self.path, "".join(kept))


def seconds_of(run: Path) -> float:
    """What a run's steps took, samples and checkpoints aside."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line).get("seconds", 0.0) for line in lines)
