"""Caption a data folder: choose the files, ask a model about them, write metadata.jsonl."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .client import Model, ModelError
from .edit_types import Balance
from .folder import ClipStyles, Folder, Source, Tuple
from .journal import Journal
from .pipeline import NO_OFFER, Captioner, is_done, next_question, ordered, rows_of


class Outcome(NamedTuple):
    """The result of a run."""

    new: dict[str, list[Tuple]]  # file name -> tuples that a model wrote, in all runs
    total: int  # tuples in metadata.jsonl
    failed: dict[str, str]  # file name -> why it has no tuple
    beyond: int  # files beyond the limit that have no tuple yet
    stopped: ModelError | KeyboardInterrupt | None  # what ended the run early


class FirstQuestions(NamedTuple):
    """What a run would ask."""

    files: int  # files that would be looked at
    open: int  # how many of them need an answer
    prompts: dict[str, str]  # file name -> prompt; the first one of each step


class Captioning:
    """A data folder whose texts a model is to write. Keep `journal` entered while it runs."""

    def __init__(
        self,
        root: Path,
        *,
        style_folders: bool = False,
        clip_styles: Sequence[str] = (),
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        """
        Args:
            style_folders: whether the folders in `root` are named after the style of their files.
            clip_styles: styles to turn clips into, in addition to those that clips have.
            seed: decides the order of files and the edit types on offer.
            limit: how many files to ask about at most.
        """
        self.folder = Folder(root, style_folders)
        clips = [source for source in self.folder.sources if source.is_clip]
        self.styles = ClipStyles(root, list(clip_styles), clips) if clips else None
        self.journal = Journal(root)
        self._seed, self._limit = seed, limit

    @cached_property
    def _ordered(self) -> list[Source]:
        """Return all files that need texts; the journal must have been read."""
        return ordered(self.folder.to_ask(self.journal), self._seed)

    @property
    def sources(self) -> list[Source]:
        """The files of this run."""
        return self._ordered[: self._limit]

    def done(self) -> int:
        """How many files of this run have all their texts already."""
        known = ((s, self.journal.known(s.name, s.size)) for s in self.sources)
        return sum(is_done(*pair, self.styles) for pair in known)

    def first_questions(self) -> FirstQuestions:
        """Prepare the run without asking anything."""
        balance, shown, prompts, left = Balance(self._seed), set(), {}, 0
        for source in self.sources:
            offer = NO_OFFER if source.is_clip else balance.offer(source.name, source.style)
            known = self.journal.known(source.name, source.size)
            question = next_question(source, offer, known, self.styles)
            left += question is not None
            if question and question.step not in shown:
                shown.add(question.step)
                prompts[source.name] = question.prompt
        return FirstQuestions(len(self.sources), left, prompts)

    def run(
        self,
        model: Model,
        *,
        concurrency: int,
        tries: int,
        on_settled: Callable[[int], None] = lambda failed: None,
    ) -> Outcome:
        """Ask about every file of this run; metadata.jsonl is written however the run ends.

        Args:
            model: answers the questions; closed at the end.
            concurrency: questions that are asked at once.
            tries: answers to one question, of which the first usable one counts.
            on_settled: called after each file with how many have failed so far.
        """
        captioner = Captioner(model, self.journal, self.styles, self._seed, concurrency, tries)
        captioner.on_settled = lambda: on_settled(len(captioner.failed))
        stopped = None
        try:
            asyncio.run(_asked(captioner, self.sources))
        except (ModelError, KeyboardInterrupt) as error:
            stopped = error
        new, stale = self._tuples()
        total = self.folder.write(new, stale)
        beyond = sum(source.name not in new for source in self._ordered[len(self.sources) :])
        return Outcome(new, total, captioner.failed, beyond, stopped)

    def _tuples(self) -> tuple[dict[str, list[Tuple]], dict[str, list[Tuple]]]:
        """The tuples by file name: of the present files, and of earlier ones of the same names."""
        new, stale = {}, {}
        for source in self.folder.sources:
            known = self.journal.known(source.name, source.size)
            if rows := rows_of(source, known, self.styles):
                new[source.name] = rows
            stale[source.name] = [
                row
                for former in self.journal.former(source.name)
                for row in rows_of(source, former, self.styles)
            ]
        return new, stale


async def _asked(captioner: Captioner, sources: list[Source]) -> None:
    try:
        await captioner.model.check()
        await captioner.run(sources)
    finally:
        await captioner.model.close()
