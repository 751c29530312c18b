"""A small web server for pages on this machine: a secret address, JSON, files with byte ranges."""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, ClassVar
from urllib.parse import parse_qs, unquote

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Bytes that are copied from a file at a time.
CHUNK = 1 << 16


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """A request that is answered with an error status and a message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def not_found() -> Refusal:
    """The answer to every request for something that does not exist, or is not allowed."""
    return Refusal(HTTPStatus.NOT_FOUND, "there is nothing here; open the whole address")


class LocalServer(ThreadingHTTPServer):
    """Serves at `address`, which contains a secret token; every other path is not found."""

    daemon_threads = True

    def __init__(
        self, handler: type[LocalHandler], token: str, host: str = LOOPBACK[0], port: int = 0
    ) -> None:
        """Listen at once; port 0 takes a free one. OSError or OverflowError if that fails."""
        super().__init__((host, port), handler)
        self.token = token
        # Reject foreign Host headers (DNS rebinding) unless the server is open to the network.
        self.allowed_hosts = LOOPBACK if host in LOOPBACK else None

    @property
    def address(self) -> str:
        """The URL to open; if the server listens on all interfaces, the one for other machines."""
        host, port = self.server_address[:2]
        return f"http://{_own_address() if host == '0.0.0.0' else host}:{port}/{self.token}/"

    def serve_until_interrupted(self) -> None:
        """Serve until Ctrl-C, then close."""
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print no traceback when a browser closes a connection early."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class LocalHandler(BaseHTTPRequestHandler):
    """Checks address, host and body of a request; subclasses implement `get` and `post`."""

    server: LocalServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    max_body: ClassVar[int] = 1 << 20  # bytes of a POST
    headers_of_all: ClassVar[dict[str, str]] = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    def get(self, parts: list[str], query: dict[str, str]) -> None:
        """Answer a GET of the path `parts` behind the token, or raise Refusal."""
        raise NotImplementedError

    def post(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        """Answer a POST of JSON, or raise Refusal."""
        raise NotImplementedError

    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        """Answer a GET request."""
        self._answer(lambda: self.get(*self._route()))

    def do_POST(self) -> None:  # noqa: N802
        """Answer a POST request."""
        self._answer(self._post)

    def send_body(self, body: bytes, mime: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send bytes that must not be cached."""
        self._send_head(status, mime, len(body), {"Cache-Control": "no-store"})
        self.wfile.write(body)

    def send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send a value as JSON."""
        self.send_body(json.dumps(value).encode(), "application/json", status)

    def send_media(self, file: BinaryIO, size: int, mime: str, cache: str = "no-store") -> None:
        """Send a seekable file of `size` bytes, or the byte range that was requested.

        Several browsers, above all on phones, play no video without ranges.
        """
        wanted = _byte_range(self.headers.get("Range", ""), size)
        first, last = wanted or (0, size - 1)
        headers = {"Accept-Ranges": "bytes", "Cache-Control": cache}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
        self._send_head(status, mime, last - first + 1, headers)
        file.seek(first)
        left = last - first + 1
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            self.wfile.write(chunk)
            left -= len(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Print no log line per request."""

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Refusal as refusal:
            self.send_json({"error": str(refusal)}, refusal.status)

    def _post(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > self.max_body:
            self.close_connection = True  # the body stays unread
            wanted = f"wanted at most {self.max_body} bytes"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, wanted)
        body = self.rfile.read(int(length))
        route = self._route()
        # Browsers let another site send this type only after a preflight, which is never answered.
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wanted application/json")
        self.post(*route, body)

    def _route(self) -> tuple[list[str], dict[str, str]]:
        """The path behind the token, and the query; Refusal for a wrong token or a foreign host."""
        path, _, query = self.path.partition("?")
        token, *parts = path.removeprefix("/").split("/")
        host = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        allowed = self.server.allowed_hosts
        if not known or (allowed and host not in allowed):
            raise not_found()
        values = {name: given[-1] for name, given in parse_qs(query).items()}
        return [unquote(part) for part in parts], values

    def _send_head(
        self, status: HTTPStatus, mime: str, length: int, headers: dict[str, str]
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(length))
        for name, value in (self.headers_of_all | headers).items():
            self.send_header(name, value)
        self.end_headers()


def _own_address() -> str:
    """Find this machine's address in its network; looking up a route sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def _byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None if it names no single range."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    if not match or match.groups() == ("", ""):
        return None
    start, end = match.groups()
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if first > last:
        raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {size} bytes")
    return first, last
