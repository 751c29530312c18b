"""Read the data sets of other trainers: musubi-tuner, ai-toolkit, Hugging Face.

A reader yields an `Imported`, a `Problem` or an `Unused` per file, and starts over when it is
called again. Names never lead out of the folder of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .ai_toolkit import ai_toolkit
from .common import Imported, Options, Read
from .huggingface import huggingface
from .musubi import musubi

__all__ = ["READERS", "Imported", "Options"]

READERS: dict[str, Callable[[Path, Options], Iterator[Read]]] = {
    "musubi": musubi,
    "ai-toolkit": ai_toolkit,
    "huggingface": huggingface,
}
