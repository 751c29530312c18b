"""Markdown tables that are aligned for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Format an aligned Markdown table; `numbers` right-aligns all columns but the first."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i and numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *others))} |"

    right = [bool(i) and numbers for i in range(len(head))]
    rule = ["-" * (w - 1) + ("-", ":")[r] for w, r in zip(widths, right, strict=True)]
    return "\n".join((line(head), f"| {' | '.join(rule)} |", *map(line, rows)))
