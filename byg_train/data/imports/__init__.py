"""What other trainers keep, read as files with fields: musubi-tuner, ai-toolkit, Hugging Face.

Readers yield one `Found` or one `Problem` per file, and read again from the start when they are
called again. A name never leads out of the folder that a data set lives in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .. import Problem
from .ai_toolkit import ai_toolkit
from .common import Found, Options
from .huggingface import huggingface
from .musubi import musubi

__all__ = ["READERS", "Found", "Options"]

Reader = Callable[[Path, Options], Iterator[Found | Problem]]
READERS: dict[str, Reader] = {
    "musubi": musubi,
    "ai-toolkit": ai_toolkit,
    "huggingface": huggingface,
}
