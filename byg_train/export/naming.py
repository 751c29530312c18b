"""What others may read of a model's name."""

from __future__ import annotations

from pathlib import Path

from ..models.locate import HUB_ID


def public_name(base: str) -> tuple[str, bool]:
    """A base's name as others may know it, and whether it is a model on the hub.

    Of a local path only the last part: the rest is nobody's business.
    """
    if HUB_ID.fullmatch(base) and not Path(base).exists():
        return base, True
    return Path(base).name, False
