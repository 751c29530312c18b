"""Bytes and seconds in words."""

from __future__ import annotations

GB = 1e9


def size_words(count: float) -> str:
    """`1.5 GB` or `20 MB`."""
    return f"{count / GB:.1f} GB" if count > 0.1 * GB else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """`5 min`, `7 h`, `3.0 days` or `12 years`."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.0f} h"
    days = hours / 24
    return f"{days:.1f} days" if days < 365 else f"{days / 365:.0f} years"
