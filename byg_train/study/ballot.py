"""Decide which rater sees which item on which side: blind, balanced, and reproducible."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from .items import VIDEOS, Comparison
from .votes import VoteFile, chance_of

SIDES = ("left", "right")
OTHER = {"a": "b", "b": "a"}
# Longest name of a rater, in letters.
LONGEST_NAME = 40


class BallotItem(NamedTuple):
    """One item as one rater sees it; nothing in it reveals the methods."""

    id: str
    instruction: str
    media: dict[str, str]  # "source", "left", "right" -> "image" or "video"
    chosen: str | None  # "left" or "right" if the rater has already voted
    previous: str | None  # id of the item that this rater voted on before


class Ballot:
    """The items of a study, as raters see them."""

    def __init__(
        self, items: list[Comparison], votes: VoteFile, per_rater: int | None = None
    ) -> None:
        """`per_rater`: maximum number of items for one rater; None means all."""
        self.votes, self.secret = votes, votes.study.secret
        self.items = {item.name: item for item in items}
        self._ids = {name: f"{chance_of(self.secret, 'id', name):016x}" for name in self.items}
        self._names = {id_: name for name, id_ in self._ids.items()}
        self.quota = min(per_rater or len(items), len(items))

    def done(self, rater: str) -> int:
        """Count the items that this rater has voted on."""
        return len(self.votes.by(rater).keys() & self.items.keys())

    def next(self, rater: str, skipped: Collection[str] = ()) -> BallotItem | None:
        """Return an item with the fewest votes, in the rater's own order; None at the end.

        `skipped` are ids of items that the rater's browser cannot show; they do not count as done.
        """
        voted = self.votes.by(rater)
        left = self.items.keys() - voted.keys()
        if len(self.items) - len(left) >= self.quota:
            return None
        left -= {self._names[id_] for id_ in skipped if id_ in self._names}
        if not left:
            return None
        counts = self.votes.counts()

        def place(name: str) -> tuple[int, int]:
            return counts.get(name, 0), chance_of(self.secret, "order", rater, name)

        return self._question(rater, min(left, key=place), voted)

    def again(self, rater: str, id_: str) -> BallotItem | None:
        """Return an item that this rater has voted on; None if there was no such vote."""
        voted = self.votes.by(rater)
        name = self._names.get(id_)
        return self._question(rater, name, voted) if name in voted else None

    def last(self, rater: str) -> str | None:
        """The id of the item that this rater voted on last."""
        return self._before(self.votes.by(rater), None)

    def vote(self, rater: str, id_: str, side: str, seconds: float) -> None:
        """Store a vote; ValueError for an item or side that was never asked."""
        name = self._names.get(id_)
        if name is None or side not in SIDES:
            raise ValueError("no such item or side")
        if name not in self.votes.by(rater) and self.done(rater) >= self.quota:
            raise ValueError("this rater has answered everything already")
        on_left = self._on_left(rater, name)
        won = on_left if side == "left" else OTHER[on_left]
        self.votes.cast(rater, name, won, on_left, seconds)

    def file(self, rater: str, id_: str, slot: str) -> Path | None:
        """The file that a rater sees in a slot: "source", "left" or "right"."""
        name = self._names.get(id_)
        return self._files(rater, name).get(slot) if name is not None else None

    def _on_left(self, rater: str, name: str) -> str:
        return "ab"[chance_of(self.secret, "side", rater, name) & 1]

    def _files(self, rater: str, name: str) -> dict[str, Path]:
        item = self.items[name]
        pair = (item.a, item.b) if self._on_left(rater, name) == "a" else (item.b, item.a)
        return {"source": item.source, "left": pair[0], "right": pair[1]}

    def _before(self, voted: dict[str, str], name: str | None) -> str | None:
        """The id of the item that was voted on before `name` (None: before now)."""
        order = [n for n in voted if n in self.items]
        order = order[: order.index(name)] if name in voted else order
        return self._ids[order[-1]] if order else None

    def _question(self, rater: str, name: str, voted: dict[str, str]) -> BallotItem:
        chosen = None
        if name in voted:
            chosen = "left" if voted[name] == self._on_left(rater, name) else "right"
        return BallotItem(
            self._ids[name],
            self.items[name].instruction,
            {
                slot: "video" if path.suffix.lower() in VIDEOS else "image"
                for slot, path in self._files(rater, name).items()
            },
            chosen,
            self._before(voted, name),
        )


def rater_name(text: str) -> str:
    """Normalise a name, since "Ann " and "ann" are one rater; ValueError for an invalid one."""
    name = " ".join(text.split()).casefold()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"wanted a name of 1 to {LONGEST_NAME} letters")
    return name
