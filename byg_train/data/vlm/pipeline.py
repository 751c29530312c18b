"""Ask a model about the files of a folder: which questions, in which order, how often."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...media import MediaError
from ...media.clips import frames_at, probe
from ...media.fit import Size
from ...media.reader import read_picture
from .answers import AnswerError, read_clip, read_edit, spoken
from .client import Model, ModelError
from .edit_types import Balance, Offer
from .folder import ClipStyles, Source, Tuple
from .journal import Journal, Known
from .prompts import again, clean_prompt, clip_prompt, edit_prompt
from .replies import NoAnswerError, RefusedError, Reply

# Answers about one window of pictures influence the offers of the window after the next. So more
# than a window of questions is always ready, and no offer depends on which answer came first.
WINDOW = 64
# Longest side in pixels, of a picture and of each frame of a clip.
SIDE, FRAME_SIDE = 1024, 512
# Of each clip so many frames are shown.
FRAMES = 8
HALF = Fraction(1, 2)
# Unanswered questions in a row after which the server counts as broken; and refused questions,
# before any answer, after which it counts as the wrong server.
FAILURES, REFUSALS = 5, 20
# What is wrong with an answer without a word whose tokens are used up.
THOUGHT = "the model thought until its budget of tokens ended, and gave no answer"
# The steps: D.1 for a picture; for a clip its caption, and D.2's cleaning of it.
EDIT, CAPTION, CLEAN = "edit", "caption", "clean"
NO_OFFER = Offer((), ())  # clips only change style


class Inquiry(NamedTuple):
    """The question of one step about one file."""

    step: str
    prompt: str
    pictures: Callable[[Path], Sequence[bytes]]
    read: Callable[[str, bool], dict[str, str]]  # (answer, whether it was cut); raises AnswerError


@dataclass
class Captioner:
    """Asks a model about files, and stores every answer in the journal."""

    model: Model
    journal: Journal
    styles: ClipStyles | None  # None where there are no clips
    seed: int
    concurrency: int  # questions at once
    tries: int  # answers to one question, of which the first usable one counts
    on_settled: Callable[[], None] = lambda: None  # called after each source that was open
    failed: dict[str, str] = field(default_factory=dict)  # file name -> why it has no tuple
    _silent: int = 0  # unanswered questions in a row
    _refused: int = 0  # refused questions
    _heard: bool = False  # whether any question was answered: then one refusal is about one file
    _fault: Exception | None = None  # the error that ends the run

    async def run(self, sources: Sequence[Source]) -> None:
        """Settle every source, or raise ModelError; answers up to then are kept."""
        slots = asyncio.Semaphore(self.concurrency)
        balance = Balance(self.seed)
        windows: deque[list[asyncio.Task]] = deque()
        try:
            for start in range(0, len(sources), WINDOW):
                if len(windows) == 2:
                    balance.settle(await asyncio.gather(*windows[0]))
                    windows.popleft()
                windows.append([])
                for source in sources[start : start + WINDOW]:
                    offer = NO_OFFER if source.is_clip else balance.offer(source.name, source.style)
                    await slots.acquire()
                    if self._fault:
                        raise self._fault
                    windows[-1].append(asyncio.create_task(self._settle(source, offer, slots)))
            await asyncio.gather(*(task for window in windows for task in window))
        finally:
            left = [task for window in windows for task in window]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _settle(
        self, source: Source, offer: Offer, slots: asyncio.Semaphore
    ) -> tuple[Offer, str | None]:
        """Run all steps for one source; returns its offer and the edit type that was chosen."""
        known = self.journal.known(source.name, source.size)
        before = is_done(source, known, self.styles)
        try:
            while question := next_question(source, offer, known, self.styles):
                if not await self._answered(source, question, known):
                    break
        except Exception as error:
            self._fault = self._fault or error
            raise
        finally:
            slots.release()
        if not before:
            self.on_settled()
        return offer, known.results.get(EDIT, {}).get("edit_type")

    async def _answered(self, source: Source, question: Inquiry, known: Known) -> bool:
        """Ask until an answer is usable, or the tries are used up."""
        key = question.step, self.model.name
        prompt, pictures = question.prompt, None
        while known.tries[key] < self.tries:
            if known.tries[key]:
                prompt = again(question.prompt, known.problem)
            try:
                if pictures is None:
                    pictures = await asyncio.to_thread(question.pictures, source.path)
                reply = await self.model.ask(prompt, pictures)
            except (MediaError, NoAnswerError, ModelError) as error:
                if isinstance(error, ModelError) and not self._heard:
                    raise
                self.failed[source.name] = str(error)
                self._count_failure(error)
                return False
            self._silent, self._heard = 0, True
            if self._keep(source, question, reply):
                return True
        number = known.tries[key]
        self.failed[source.name] = f"{number} unusable answers, the last: {known.problem}"
        return False

    def _keep(self, source: Source, question: Inquiry, reply: Reply) -> bool:
        """Store an answer in the journal; returns whether it is usable."""
        try:
            if reply.cut and not spoken(reply.text).strip():
                raise AnswerError(THOUGHT)
            verdict: dict[str, Any] = {"result": question.read(reply.text, reply.cut)}
        except AnswerError as error:
            verdict = {"problem": str(error)}
        self.journal.append(
            {
                "file_name": source.name,
                "size": source.size,
                "step": question.step,
                "model": self.model.name,
                **verdict,
                "tokens": [reply.asked, reply.answered],
                "answer": reply.text,
            }
        )
        return "result" in verdict

    def _count_failure(self, error: Exception) -> None:
        """Raise ModelError once the errors are unlikely to be about single files."""
        if isinstance(error, RefusedError):
            self._refused += 1
        elif not isinstance(error, MediaError):
            self._silent += 1
        never = not self.journal.answers and self._refused >= REFUSALS
        if never or self._silent >= FAILURES:
            number = self._refused if never else self._silent
            raise ModelError(
                f"{number} questions in a row got no answer, the last because: {error}"
            )


def ordered(sources: Sequence[Source], seed: int) -> list[Source]:
    """Shuffle the files, so that the first ones are a representative sample."""
    return sorted(sources, key=lambda s: hashlib.sha256(f"{seed} {s.name}".encode()).digest())


def next_question(
    source: Source, offer: Offer, known: Known, styles: ClipStyles | None
) -> Inquiry | None:
    """Return the next question about a file; None once it has all its texts."""
    results = known.results
    if not source.is_clip:
        if EDIT in results:
            return None
        prompt = edit_prompt(offer, source.caption, source.style)
        return Inquiry(EDIT, prompt, picture_jpegs, lambda text, cut: read_edit(text, cut, offer))
    caption = source.caption or results.get(CAPTION, {}).get("caption")
    if caption is None or _clip_style(source, known) not in styles.names:
        names = () if source.style else tuple(styles.names)
        prompt = clip_prompt(names)
        return Inquiry(CAPTION, prompt, clip_jpegs, lambda text, cut: read_clip(text, cut, names))
    if CLEAN in results:
        return None
    prompt = clean_prompt(caption)
    return Inquiry(CLEAN, prompt, lambda path: [], lambda text, cut: read_clip(text, cut, ()))


def is_done(source: Source, known: Known, styles: ClipStyles | None) -> bool:
    """Whether a file has all its texts."""
    return next_question(source, NO_OFFER, known, styles) is None


def rows_of(source: Source, known: Known, styles: ClipStyles | None) -> list[Tuple]:
    """Return the tuples of a file that has all its texts, else none."""
    if not source.is_clip:
        edit = known.results.get(EDIT)
        return [{"file_name": source.name, **edit}] if edit else []
    style = _clip_style(source, known)
    if CLEAN not in known.results or style not in styles.names:
        return []
    return styles.tuples(source.name, known.results[CLEAN]["caption"], style)


def _clip_style(source: Source, known: Known) -> str | None:
    return source.style or known.results.get(CAPTION, {}).get("style")


# ---------------------------------------------------------------- what a model is shown


def picture_jpegs(path: Path) -> list[bytes]:
    """Encode a picture, upright, at most SIDE pixels long; raises MediaError."""
    try:
        return [_jpeg(read_picture(path, at_least=Size(SIDE, SIDE)), SIDE)]
    except MediaError as error:
        raise MediaError(f"it cannot be read: {error}") from error


def clip_jpegs(path: Path) -> list[bytes]:
    """Encode at most FRAMES evenly spread frames of a clip; raises MediaError."""
    return [_jpeg(Image.fromarray(frame), FRAME_SIDE) for frame in shown_frames(path)]


def shown_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) in the middle of equal parts of a clip, each one once."""
    facts = probe(path)
    number = min(FRAMES, facts.frames)
    part, frame = facts.duration / number, facts.duration / facts.frames
    return frames_at(path, [(i + HALF) * part - HALF * frame for i in range(number)])


def _jpeg(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()
