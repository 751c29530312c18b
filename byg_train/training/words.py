"""Bytes and seconds in words."""

from __future__ import annotations

GB = 1e9


def size_words(count: float) -> str:
    """`1.5 GB` or `20 MB`."""
    return f"{count / GB:.1f} GB" if count > 0.1 * GB else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """`5 min`, `7 h` or `3.0 days`."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"
