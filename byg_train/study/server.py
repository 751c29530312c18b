"""Serve a study: the page, its questions and their media; take votes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from ..local_server import LocalHandler, LocalServer, Refusal, not_found
from .ballot import Ballot, BallotItem, rater_name
from .items import TYPES

HERE = Path(__file__).with_name("page")
PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
POLICY = "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src 'self'; " + (
    "script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'"
)
# Longest time in seconds that counts for one vote; beyond it, the rater took a break.
SLOWEST = 3600.0


class PostedVote(BaseModel):
    """A vote as a browser sends it."""

    rater: str
    item: str
    side: Literal["left", "right"]
    seconds: float = Field(ge=0)


class StudyServer(LocalServer):
    """A study, for everybody who was told its address."""

    def __init__(
        self, ballot: Ballot, question: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__(StudyHandler, ballot.votes.study.token, host, port)
        self.ballot, self.question = ballot, question


class StudyHandler(LocalHandler):
    """GET the page, `api/next`, `api/again`, `media/ID/SLOT`; POST `api/vote`.

    `api/next` and `api/vote` take `skipped=ID,ID`: items that the browser cannot show, which are
    not asked next. A vote is a `PostedVote`.
    """

    server: StudyServer
    max_body = 4096
    headers_of_all = LocalHandler.headers_of_all | {"Content-Security-Policy": POLICY}

    def get(self, parts: list[str], query: dict[str, str]) -> None:
        """Send the page, a question, or what a question shows."""
        if len(parts) == 1 and parts[0] in PAGE:
            name, mime = PAGE[parts[0]]
            self.send_body((HERE / name).read_bytes(), mime)
            return
        rater, ballot = _rater(query.get("rater", "")), self.server.ballot
        match parts:
            case ["api", "next"]:
                self._send_next(rater, query)
            case ["api", "again"]:
                question = ballot.again(rater, query.get("item", ""))
                if question is None:
                    raise Refusal(HTTPStatus.NOT_FOUND, "this rater has not voted on that")
                self._send_question(rater, question)
            case ["media", id_, slot]:
                path = ballot.file(rater, id_, slot)
                if path is None or not path.is_file():
                    raise not_found()
                mime, cache = TYPES[path.suffix.lower()], "private, max-age=3600"
                with path.open("rb") as file:
                    self.send_media(file, path.stat().st_size, mime, cache)
            case _:
                raise not_found()

    def post(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        """Store a vote and send the next question."""
        if parts != ["api", "vote"]:
            raise not_found()
        try:
            vote = PostedVote.model_validate_json(body)
            rater = rater_name(vote.rater)
            seconds = min(vote.seconds, SLOWEST)
            self.server.ballot.vote(rater, vote.item, vote.side, seconds)
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._send_next(rater, query)

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            super()._answer(work)
        except sqlite3.Error as error:
            message = f"the votes cannot be written: {error}"
            self.send_json({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send_next(self, rater: str, query: dict[str, str]) -> None:
        skipped = query.get("skipped", "").split(",")
        self._send_question(rater, self.server.ballot.next(rater, skipped))

    def _send_question(self, rater: str, question: BallotItem | None) -> None:
        ballot = self.server.ballot
        self.send_json(
            {
                "ask": self.server.question,
                "done": ballot.done(rater),
                "total": ballot.quota,
                "item": question._asdict() if question else None,
                "previous": question.previous if question else ballot.last(rater),
            }
        )


def _rater(text: str) -> str:
    try:
        return rater_name(text)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
