"""A judge that looks at pictures and answers in words, and is never asked the same thing twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..data.vlm.client import ModelError, NoAnswerError

if TYPE_CHECKING:
    from ..data.vlm.client import Model

# Pictures and a question -> the answer, as it was given; None if there was none.
Ask = Callable[[Sequence[Image.Image], str], Awaitable[str | None]]

# VIEScore's: greedy, and as reproducible as the server can.
SEED, TEMPERATURE = 42, 0.0
# Questions in a row without an answer, after which the server is taken for broken.
FAILURES = 5


class Judge:
    """Asks a model and keeps what it says, so that a run that was stopped goes on where it was.

    An answer is found again by the model's name, the question and the pictures' pixels. Silence and
    answers that had to stop before their end are not kept: the next run asks again.
    """

    def __init__(self, model: Model, file: Path) -> None:
        """`file` takes one JSON object per answer; a line that a crash has torn is asked again."""
        self.model, self.file = model, file
        self.silent = self.cut = 0  # questions without an answer, answers that had to stop
        self._in_a_row = 0
        self._said: dict[str, str] = {}
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        self._torn = bool(lines[-1])
        for line in lines:
            self._read(line)

    async def ask(self, pictures: Sequence[Image.Image], question: str) -> str | None:
        """The answer, from the file or else from the model; None where it gives none, or half.

        Raises ModelError if it is likely that no question will be answered.
        """
        key = self._key(pictures, question)
        if key not in self._said:
            try:
                reply = await self.model.ask(question, [_png(picture) for picture in pictures])
            except NoAnswerError as error:
                self._lose_patience(error)
                return None
            self._in_a_row = 0
            if reply.cut:  # half an answer may hold numbers that are no marks
                self.cut += 1
                return None
            self._keep(key, reply.text)
        return self._said[key]

    def _lose_patience(self, error: NoAnswerError) -> None:
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

    def _read(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self._said[entry["key"]] = entry["answer"]
        except (ValueError, KeyError, TypeError):
            pass

    def _keep(self, key: str, answer: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        entry = {"key": key, "model": self.model.name, "answer": answer}
        with self.file.open("ab") as file:
            # On a line of its own, also behind one that a crash has torn.
            file.write(b"\n" * self._torn + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        self._said[key] = answer


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "png")
    return buffer.getvalue()
