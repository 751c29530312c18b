"""Ask a vision-language model to judge pictures; no question is asked twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from ..data.vlm.client import ModelError
from ..data.vlm.journal import AnswerLog
from ..data.vlm.replies import NoAnswerError

if TYPE_CHECKING:
    from ..data.vlm.client import Model

M = TypeVar("M")
# Pictures and a question -> the answer as it was given; None if there was none.
Ask = Callable[[Sequence[Image.Image], str], Awaitable[str | None]]

# VIEScore's settings: greedy, and as reproducible as the server allows.
SEED, TEMPERATURE = 42, 0.0
# Unanswered questions in a row after which the server counts as broken.
FAILURES = 5


class VlmJudge(AnswerLog):
    """Asks a model and stores its answers, so that an interrupted run continues where it stopped.

    An answer is found by the model's name, the question and the pixels of the pictures. Missing and
    truncated answers are not stored: the next run asks again.
    """

    def __init__(self, model: Model, file: Path) -> None:
        """Load the answers that `file` holds; new ones are appended to it."""
        super().__init__(file)
        self.model = model
        self.silent = self.cut = 0  # questions without an answer, and truncated answers
        self._in_a_row, self._heard = 0, False
        self._answers: dict[str, str] = {}
        self.read()

    async def ask(self, pictures: Sequence[Image.Image], question: str) -> str | None:
        """Return the stored or new answer; None if the model gives none, or a truncated one.

        Raises ModelError once it is likely that no question will be answered.
        """
        key = self._key(pictures, question)
        if key not in self._answers:
            try:
                reply = await self.model.ask(question, [_png(picture) for picture in pictures])
            except (NoAnswerError, ModelError) as error:
                if isinstance(error, ModelError) and not self._heard:
                    raise
                self._count_failure(error)
                return None
            self._in_a_row, self._heard = 0, True
            if reply.cut:  # half an answer may hold numbers that are no marks
                self.cut += 1
                return None
            self.append({"key": key, "model": self.model.name, "answer": reply.text})
        return self._answers[key]

    def _count_failure(self, error: Exception) -> None:
        self.silent += 1
        self._in_a_row += 1
        if self._in_a_row >= FAILURES:
            raise ModelError(
                f"{self._in_a_row} questions in a row got no answer, the last because: {error}"
            ) from None

    def _key(self, pictures: Sequence[Image.Image], question: str) -> str:
        state = hashlib.sha256(json.dumps([self.model.name, question]).encode())
        for picture in pictures:
            rgb = picture.convert("RGB")
            state.update(f"{rgb.size}".encode())
            state.update(hashlib.sha256(rgb.tobytes()).digest())
        return state.hexdigest()

    def take(self, entry: dict[str, Any]) -> None:
        """Keep an answer by its key."""
        self._answers[entry["key"]] = entry["answer"]


async def marks_of(
    ask: Ask, pictures: Sequence[Image.Image], question: str, again: str, read: Callable[[str], M]
) -> M | None:
    """The marks that are read in an answer; with `again` added to the question for a second try."""
    for words in (question, question + again):
        answer = await ask(pictures, words)
        if answer is None:
            return None
        if marks := read(answer):
            return marks
    return None


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "png")
    return buffer.getvalue()
