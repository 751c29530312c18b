"""Serves the preview to this machine alone, and keeps every decision as it is made."""

from __future__ import annotations

import json
import re
import secrets
import threading
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from ..check import Report
from ..excluded import Entry, read_struck, row_entry, write_struck
from ..thumbnails import FULL, THUMB, Copy, small_copy
from .page import page, pictures

HOST = "127.0.0.1"
# Names by which a browser on this machine may ask: another name is another site's trick.
NAMES = (HOST, "localhost", "[::1]")
RANGE = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")
# Bytes of a decision.
LONGEST = 1 << 20


class PreviewServer(ThreadingHTTPServer):
    """A page at `address`, known only to whom the address was told."""

    daemon_threads = True

    def __init__(self, report: Report, port: int = 0) -> None:
        super().__init__((HOST, port), Handler)
        self.report, self.root = report, report.root
        self.token = secrets.token_urlsafe(16)
        self.files = [picture["file"] for picture in pictures(report)]
        entries = (row_entry(row, self.root) for row in report.rows)
        self.tuples: set[Entry] = {entry for entry in entries if entry}
        self._lock = threading.Lock()
        self._copy = lru_cache(512)(small_copy)

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def page(self) -> str:
        """The page with what is struck now."""

        def addresses(index: int, name: str) -> dict[str, str]:
            return {"thumb": f"thumb/{index}", "full": f"full/{index}"}

        struck = read_struck(self.root)
        return page(self.report, struck, served=True, addresses=addresses)

    def copy(self, index: int, name: str) -> Copy:
        """The `thumb` or `full` of a file; IndexError, OSError or ValueError if there is none."""
        side = THUMB if name == "thumb" else FULL
        return self._copy(self.root / self.files[index], side, self.report.kind)

    def decide(self, file: str, instruction: str | None, strike: bool) -> None:
        """Store one decision; a picture that is taken back takes its tuples with it.

        ValueError for what is not in the set.
        """
        if instruction is not None:
            instruction = " ".join(instruction.split())
        known = file in self.files if instruction is None else (file, instruction) in self.tuples
        if not known:
            raise ValueError(f"{file!r} is not in this set")
        with self._lock:
            struck = read_struck(self.root)
            if strike:
                struck.add((file, instruction))
            elif instruction is None:
                struck = {entry for entry in struck if entry[0] != file}
            else:
                struck.discard((file, instruction))
            write_struck(self.root, struck)


class Handler(BaseHTTPRequestHandler):
    """GET the page and its files, POST decisions; everything else is not there."""

    server: PreviewServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        """The page, `thumb/N` and `full/N`."""
        parts = self._parts()
        try:
            if parts == [""]:
                self._send(HTTPStatus.OK, self.server.page().encode(), "text/html; charset=utf-8")
            elif parts and len(parts) == 2 and parts[0] in ("thumb", "full") and _number(parts[1]):
                self._send_part(self.server.copy(int(parts[1]), parts[0]))
            else:
                self._send(HTTPStatus.NOT_FOUND)
        except (IndexError, OSError, ValueError):
            self._send(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:  # noqa: N802
        """`strike`: {"file": ..., "instruction": ... or null, "struck": true or false}."""
        length = self.headers.get("Content-Length", "")
        if self._parts() != ["strike"] or not _number(length) or int(length) > LONGEST:
            self.close_connection = True  # what was sent is left unread
            self._send(HTTPStatus.NOT_FOUND)
            return
        try:
            file, instruction, strike = _decision(self.rfile.read(int(length)))
            self.server.decide(file, instruction, strike)
        except ValueError as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error).encode(), "text/plain; charset=utf-8")
        except OSError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), "text/plain")
        else:
            self._send(HTTPStatus.OK, b"{}", "application/json")

    def _parts(self) -> list[str] | None:
        """The path behind the token; None for whoever does not know it."""
        _, token, *parts = *unquote(urlsplit(self.path).path).split("/", 3), "", ""
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        host = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        return parts[:-2] if known and host in NAMES else None

    def _send_part(self, copy: Copy) -> None:
        """All of a copy, or the bytes that were asked for: some browsers play no film otherwise."""
        size = len(copy.data)
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            self._send(HTTPStatus.OK, copy.data, copy.mime)
            return
        first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if first > last:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        part = f"bytes {first}-{last}/{size}"
        self._send(HTTPStatus.PARTIAL_CONTENT, copy.data[first : last + 1], copy.mime, part)

    def _send(
        self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain", part: str = ""
    ) -> None:
        self.send_response(status)
        if part:
            self.send_header("Content-Range", part)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal shows the address."""


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _decision(body: bytes) -> tuple[str, str | None, bool]:
    """ValueError for anything but a decision."""
    found = json.loads(body)
    if not isinstance(found, dict) or found.keys() != {"file", "instruction", "struck"}:
        raise ValueError("wanted file, instruction and struck")
    file, instruction, strike = found["file"], found["instruction"], found["struck"]
    fits = (
        isinstance(file, str) and isinstance(instruction, str | None) and isinstance(strike, bool)
    )
    if not fits:
        raise ValueError("wanted a text, a text or null, and true or false")
    return file, instruction, strike
