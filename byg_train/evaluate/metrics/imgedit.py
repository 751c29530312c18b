"""The judge of ImgEdit-Bench: three marks from 1 to 5, with a prompt for each type of edit.

Ye et al. 2025, arXiv 2505.20275: 737 edits of nine types; an edit's score is the mean of its three
marks, a type's the mean of its edits. The questions ask in our words what the benchmark asks, so
scores compare with scores given here; with published ones only roughly, as between judges.
"""

from __future__ import annotations

import re

from PIL import Image

from ...data.vlm.answers import spoken
from ..judge import Ask, marks_of
from ..metric import Case, JudgeMeasure, Metric, Values

# Type -> what the first mark is given for, and what the edit may not touch.
TYPES = {
    "add": (
        "the object that was asked for is there, complete, of the right kind, number and place",
        "everything that was there before",
    ),
    "adjust": (
        "exactly the attribute that was named has changed, on the right object, as asked",
        "the object's shape and identity, and everything else in the picture",
    ),
    "background": (
        "the background is the one that was asked for, behind every edge of the subject",
        "the foreground subject: its identity, pose, edges and colours",
    ),
    "remove": (
        "the object that was named is gone without a trace, and nothing new stands in its place",
        "everything else; where the object was, what would be seen behind it",
    ),
    "replace": (
        "the old object is gone, and the new one is there, of the right kind and in its place",
        "everything but the object that was replaced",
    ),
    "style": (
        "the whole picture is in the style that was asked for: medium, palette, strokes, texture",
        "what is shown and where: subjects, layout and pose",
    ),
    "extract": (
        "exactly the object that was named is cut out, whole, alone on a plain background",
        "the object itself: its shape, edges, colours and texture",
    ),
    "action": (
        "the subject does what was asked for, with a pose and an expression that fit",
        "the subject's identity, its clothes, and the scene",
    ),
    "compose": (
        "every one of the edits that were asked for is made, each on the right object",
        "everything that none of the edits names",
    ),
}
QUESTION = """You mark how well a picture was edited. The first picture is the original, the second
the edited one. Instruction: {instruction}

Give three marks from 1 to 5, whole numbers:
Prompt compliance: {first}. 5: all of it. 3: in the main, with a visible fault. 1: not at all.
Visual seamlessness: no seams, halos, smears or breaks in light, colour and perspective. 5: nobody
would see that it was edited. 1: faults leap to the eye.
Detail fidelity: kept is {second}. 5: untouched. 1: lost.
Neither of the last two may be higher than the first.

Answer with one short line of reasoning, then three lines and nothing else:
Prompt compliance: MARK
Visual seamlessness: MARK
Detail fidelity: MARK"""
AGAIN = "\nAn earlier answer could not be read: end with the three lines, a number in each."
MARKS = 3


async def judge_edit(
    ask: Ask, source: Image.Image, edited: Image.Image, instruction: str, kind: str
) -> float | None:
    """Return the mean of the three marks, 1 to 5; None without a readable answer."""
    first, second = TYPES[kind]
    question = QUESTION.format(instruction=instruction, first=first, second=second)
    marks = await marks_of(ask, [source, edited], question, AGAIN, read_marks)
    return sum(marks) / MARKS if marks else None


def read_marks(answer: str) -> tuple[int, ...] | None:
    """Read the last three lines `Name: number`; None unless all numbers are 1 to 5.

    What stands among thoughts is no mark.
    """
    answer = spoken(answer)
    marks_of = r"^[^\w\n]*[A-Za-z][A-Za-z &]*[^\w\n]*:[^\w\n]*(\d+)(?: */ *5)?[^\w\n]*$"
    marks = tuple(int(mark) for mark in re.findall(marks_of, answer, re.MULTILINE)[-MARKS:])
    return marks if len(marks) == MARKS and all(1 <= mark <= 5 for mark in marks) else None


def _build(ask: Ask) -> JudgeMeasure:
    async def measure(case: Case) -> Values:
        edited = case.source._replace(frames=case.edited).picture
        words, kind = case.task.instruction, case.task.group
        return {"imgedit": await judge_edit(ask, case.source.picture, edited, words, kind)}

    return measure


METRIC = Metric(
    "imgedit",
    "ImgEdit-Bench's mark, 1 to 5",
    needs=frozenset({"judge", "pictures", "groups"}),
    build_judge=_build,
    place=12,
)
