"""VIEScore: a vision-language model rates an edit (Tables 2 to 4).

Ku et al. 2024, arXiv 2312.14867, task "text-guided image editing": SC = min(edit success, source
kept), PQ = min(naturalness, freedom from artifacts), each 0 to 10, and O = sqrt(SC PQ). The
questions below ask what VIEScore asks, in our words, so marks compare with marks given here; with
published ones only roughly, as between judges.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from ...data.vlm.answers import spoken
from ..judge import Ask, marks_of
from ..metric import Case, JudgeMeasure, Metric, Values

_ANSWER = """
Answer with one JSON object and nothing else; the reasoning in one or two sentences:
{"score": [FIRST, SECOND], "reasoning": "..."}"""

SC_QUESTION = (
    """You are a professional digital artist and judge how well a picture was edited.
The first picture is the original, the second the edited one. They may look the same: then the edit
has failed.

Give two marks from 0 to 10:
FIRST, the success of the edit. 0: the second picture does not follow the instruction at all.
10: it follows the instruction perfectly.
SECOND, how little was changed beyond what the instruction asks for. 0: the second picture has
nothing in common with the original. 10: all that the instruction does not name is as it was.

Instruction: {instruction}
"""
    + _ANSWER
)
PQ_QUESTION = (
    """You are a professional digital artist and judge how well a picture is made.

Give two marks from 0 to 10:
FIRST, how natural it looks. 0: distances, shadows or light are wrong throughout. 10: it looks
natural.
SECOND, how free of faults it is. 0: large parts are distorted, blurred, scratched, watermarked or
do not fit together. 10: there is no fault.
"""
    + _ANSWER
)
# Added to a second try; after it the mark is missing (VIEScore would draw it by lot).
AGAIN = "\nAn earlier answer could not be read: give the JSON object and nothing else."


class Marks(NamedTuple):
    """The marks of one edit, 0 to 10; None without a readable answer."""

    success: float | None  # Table 4, Edit Success
    kept: float | None  # Table 4, Source Preservation
    natural: float | None
    clean: float | None

    @property
    def semantic(self) -> float | None:
        """Semantic consistency, SC."""
        return None if self.success is None else min(self.success, self.kept)

    @property
    def quality(self) -> float | None:
        """Perceptual quality, PQ."""
        return None if self.natural is None else min(self.natural, self.clean)

    @property
    def overall(self) -> float | None:
        """The overall mark, O."""
        if self.semantic is None or self.quality is None:
            return None
        return geometric(self.semantic, self.quality)


async def judge_edit(ask: Ask, source: Image.Image, edited: Image.Image, instruction: str) -> Marks:
    """Rate one edit; the result is shown at the source's size."""
    edited = edited if edited.size == source.size else edited.resize(source.size)
    question = SC_QUESTION.replace("{instruction}", instruction)
    semantic = await marks_of(ask, [source, edited], question, AGAIN, read_marks)
    quality = await marks_of(ask, [edited], PQ_QUESTION, AGAIN, read_marks)
    return Marks(*(semantic or (None, None)), *(quality or (None, None)))


def geometric(semantic: float, quality: float) -> float:
    """sqrt(SC PQ): for marks of an edit its overall mark, for means the number in Table 2.

    The mean of the edits' own (GEdit-Bench, Table 3) is another number.
    """
    return math.sqrt(semantic * quality)


def read_marks(answer: str) -> tuple[float, float] | None:
    """Read the two marks in an answer, however it wraps them; None if there are none.

    Looked for in this order: a JSON object with `score`, the text after `score` where the JSON is
    broken, a bare list. Numbers beyond 0 to 10 or not a list of two are no marks, and neither is
    what stands among thoughts.
    """
    answer = spoken(answer)
    if match := re.search(r"\{.*\}", answer, re.DOTALL):
        with suppress(ValueError, RecursionError):
            return _two(json.loads(match.group()).get("score"))
    match = re.search(r"score\W*\[([^\]]*)\]", answer) or re.search(r"\[([^\]]*)\]", answer)
    return _two(match.group(1).split(",")) if match else None


def _two(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or any(isinstance(mark, bool) for mark in value):
        return None
    try:
        first, second = (float(mark) for mark in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (first, second) if 0 <= first <= 10 and 0 <= second <= 10 else None


def _build(ask: Ask) -> JudgeMeasure:
    async def measure(case: Case) -> Values:
        edited = case.source._replace(frames=case.edited).picture
        marks = await judge_edit(ask, case.source.picture, edited, case.task.instruction)
        names = {"SC": "semantic", "PQ": "quality"}
        return {column: getattr(marks, names.get(column, column)) for column in METRIC.columns}

    return measure


METRIC = Metric(
    "viescore",
    "VIEScore: marks of a judge, 0 to 10",
    ("success", "kept", "SC", "PQ", "overall"),
    needs=frozenset({"judge", "pictures"}),
    build_judge=_build,
    usual=True,
    place=11,
)
