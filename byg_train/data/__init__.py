"""From folders to training tuples: manifests and style folders, the cache, the batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

# Problems that an error spells out before it only counts.
SHOWN = 50


class Row(NamedTuple):
    """A tuple as found, unchecked: a manifest's line, or what templates make of a picture."""

    where: str  # `metadata.jsonl:12`, or the picture's name
    fields: dict[str, Any]  # file_name, src_caption, ...


class Problem(NamedTuple):
    """Something that cannot be used."""

    where: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; wanted {self.wanted}"


class DataError(ValueError):
    """Data that cannot be trained on; the message lists every problem (the first 50 in full)."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        lines = [message, *(f"  {problem}" for problem in problems[:SHOWN])]
        if len(problems) > SHOWN:
            lines.append(f"  ... and {len(problems) - SHOWN} more")
        super().__init__("\n".join(lines))
        self.problems = list(problems)


def counted(number: int, noun: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
