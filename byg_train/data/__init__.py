"""Turn folders into training tuples: manifests, style folders, the cache, the batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .rule_codes import UNUSABLE

# Problems that an error message lists in full; the rest is only counted.
SHOWN = 50


class Row(NamedTuple):
    """A training tuple as it was read, unchecked: a manifest line, or filled-in templates."""

    where: str  # `metadata.jsonl:12`, or the name of the file
    fields: dict[str, Any]  # file_name, src_caption, ...


class Problem(NamedTuple):
    """One reason why an item cannot be used."""

    where: str
    found: str
    wanted: str
    rule: str = UNUSABLE  # one of `rule_codes`

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; wanted {self.wanted}"


class DataError(ValueError):
    """Data that cannot be used; the message lists every problem (the first 50 in full)."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        lines = [message, *(f"  {problem}" for problem in problems[:SHOWN])]
        if len(problems) > SHOWN:
            lines.append(f"  ... and {len(problems) - SHOWN} more")
        super().__init__("\n".join(lines))
        self.problems = list(problems)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 clip`, `2 clips`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
