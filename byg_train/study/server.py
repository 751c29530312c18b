"""Serves a study: the page, its questions and their pictures; takes votes."""

from __future__ import annotations

import json
import re
import secrets
import socket
import sqlite3
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, unquote

from .ballot import Ballot, Question, rater_name
from .items import TYPES

HERE = Path(__file__).with_name("page")
PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLICY = "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src 'self'; " + (
    "script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'"
)
# Bytes of a vote; seconds that one may take (longer was a break).
LONGEST, SLOWEST = 4096, 3600.0
CHUNK = 1 << 16


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """What is told to whoever asked for something that is not there."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class StudyServer(ThreadingHTTPServer):
    """A study at `address`, for whom the address was told."""

    daemon_threads = True

    def __init__(
        self, ballot: Ballot, question: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__((host, port), Handler)
        self.ballot, self.question = ballot, question
        self.token = ballot.votes.study.token
        # By another name only another site's trick would reach a server of this machine alone.
        self.names = LOOPBACK if host in LOOPBACK else None

    @property
    def address(self) -> str:
        """Of the page; where it listens to everybody, as others in the network reach it."""
        host, port = self.server_address[:2]
        return f"http://{_own_address() if host == '0.0.0.0' else host}:{port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever closes a page amid a video is not worth a traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET the page, `api/next`, `api/again`, `media/ID/SLOT`; POST `api/vote`. No more is there.

    `skipped=ID,ID` with `api/next` and `api/vote`: what the browser cannot show is not asked next.
    """

    server: StudyServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        """The page, a question, or what it shows."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """`api/vote`: {"rater", "item", "side": "left" or "right", "seconds"} -> the next one."""
        self._answer(self._post)

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Refusal as refusal:
            self._send_json({"error": str(refusal)}, refusal.status)
        except sqlite3.Error as error:
            told = f"the votes cannot be written: {error}"
            self._send_json({"error": told}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _get(self) -> None:
        parts, query = self._asked()
        if len(parts) == 1 and parts[0] in PAGE:
            name, kind = PAGE[parts[0]]
            self._send((HERE / name).read_bytes(), kind)
            return
        rater = _rater(query.get("rater", ""))
        match parts:
            case ["api", "next"]:
                self._send_next(rater, query)
            case ["api", "again"]:
                question = self.server.ballot.again(rater, query.get("item", ""))
                if question is None:
                    raise Refusal(HTTPStatus.NOT_FOUND, "this rater has not voted on that")
                self._send_question(rater, question)
            case ["media", id_, slot]:
                self._send_file(self.server.ballot.file(rater, id_, slot))
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,6}", length, re.ASCII) or int(length) > LONGEST:
            self.close_connection = True  # what was sent is left unread
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"wanted at most {LONGEST} bytes")
        body = self.rfile.read(int(length))
        parts, query = self._asked()
        if parts != ["api", "vote"]:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")
        # A form of another site cannot send this type without asking first, and is never allowed.
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wanted application/json")
        rater, item, side, seconds = _vote(body)
        try:
            self.server.ballot.vote(rater, item, side, seconds)
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._send_next(rater, query)

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        """The path behind the token, and the query; Refusal for whoever does not know the token."""
        path, _, asked = self.path.partition("?")
        token, *parts = path.removeprefix("/").split("/")
        host = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        if not known or (self.server.names and host not in self.server.names):
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here; open the whole address")
        query = {name: values[-1] for name, values in parse_qs(asked).items()}
        return [unquote(part) for part in parts], query

    def _send_next(self, rater: str, query: dict[str, str]) -> None:
        skipped = query.get("skipped", "").split(",")
        self._send_question(rater, self.server.ballot.next(rater, skipped))

    def _send_question(self, rater: str, question: Question | None) -> None:
        ballot = self.server.ballot
        self._send_json(
            {
                "ask": self.server.question,
                "done": ballot.done(rater),
                "total": ballot.quota,
                "item": question._asdict() if question else None,
                "previous": question.previous if question else ballot.last(rater),
            }
        )

    def _send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind, len(body), {"Cache-Control": "no-store"})
        self.wfile.write(body)

    def _send_file(self, path: Path | None) -> None:
        """A whole file, or the range that was asked for: without ranges, iPhones play no video."""
        if path is None or not path.is_file():
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")
        size = path.stat().st_size
        wanted = _range(self.headers.get("Range", ""), size)
        first, last = wanted or (0, size - 1)
        headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600"}
        status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        with path.open("rb") as file:
            self._head(status, TYPES[path.suffix.lower()], last - first + 1, headers)
            file.seek(first)
            _copy(file, self.wfile, last - first + 1)

    def _head(self, status: HTTPStatus, kind: str, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal shows the address."""


def _own_address() -> str:
    """This machine's in its network; asking for the way to somewhere sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def _rater(text: str) -> str:
    try:
        return rater_name(text)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None


def _vote(body: bytes) -> tuple[str, str, str, float]:
    """(rater, item, side, seconds); Refusal for anything else."""
    try:
        told = json.loads(body)
        texts = [told[name] for name in ("rater", "item", "side")]
        seconds = float(told["seconds"])
    except (ValueError, TypeError, KeyError):
        texts, seconds = [], 0.0
    if len(texts) != 3 or not all(isinstance(text, str) for text in texts) or not seconds >= 0:
        raise Refusal(HTTPStatus.BAD_REQUEST, "wanted rater, item, side and seconds")
    return _rater(texts[0]), texts[1], texts[2], min(seconds, SLOWEST)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte that are wanted; None where the header names no single range."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    if not match or match.groups() == ("", ""):
        return None
    start, end = match.groups()
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if first > last:
        raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {size} bytes")
    return first, last


def _copy(file: BinaryIO, to: BinaryIO, length: int) -> None:
    while length > 0 and (chunk := file.read(min(CHUNK, length))):
        to.write(chunk)
        length -= len(chunk)
