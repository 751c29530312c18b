"""Read the data sets of other trainers: musubi-tuner, ai-toolkit, Hugging Face.

A reader yields a `Found`, a `Problem` or an `Unused` per file, and starts over when it is called
again. Names never lead out of the folder of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .. import Problem
from ..unused import Unused
from .ai_toolkit import ai_toolkit
from .common import Found, Options
from .huggingface import huggingface
from .musubi import musubi

__all__ = ["READERS", "Found", "Options"]

Reader = Callable[[Path, Options], Iterator[Found | Problem | Unused]]
READERS: dict[str, Reader] = {
    "musubi": musubi,
    "ai-toolkit": ai_toolkit,
    "huggingface": huggingface,
}
