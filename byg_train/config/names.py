"""The nearest known name: messages about an unknown one offer it."""

from __future__ import annotations

import difflib


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
