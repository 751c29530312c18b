"""The wide world's judge and its training set: the tiny world's, of wider scenes."""

from __future__ import annotations

from dataclasses import replace

from . import wide
from .demo import OF_PICTURES
from .judge import PICTURES, Judge

# Who moves or mirrors the subject has not kept the source.
WIDE = Judge(
    wide,
    PICTURES.labels,
    {**PICTURES.values, "place": wide.PLACES, "mirrored": (False, True)},
    PICTURES.pairs,
)
OF_WIDE = replace(OF_PICTURES, judge=WIDE, training_edit=wide.training_edit)
