"""Tables that can be read in a terminal and pasted into a page."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns in line: the first one left, the others right."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *others))} |"

    rule = ["-" * width if not i else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join((line(head), f"| {' | '.join(rule)} |", *map(line, rows)))
