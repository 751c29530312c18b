"""Serve the preview page to this machine, and store every decision as it is made."""

from __future__ import annotations

import secrets
import threading
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO

from pydantic import BaseModel, ConfigDict

from ...local_server import LocalHandler, LocalServer, Refusal, not_found
from ..check import Report
from ..excluded import Entry, read_excluded, row_entry, write_excluded
from .page import FULL, THUMB, page, pictures, thumbnail

SIDES = {"thumb": THUMB, "full": FULL}


class Decision(BaseModel):
    """What a person decided about a file (instruction None), or about one of its tuples."""

    model_config = ConfigDict(extra="forbid", strict=True)

    file: str
    instruction: str | None
    excluded: bool


class PreviewServer(LocalServer):
    """The preview page of one data set."""

    def __init__(self, report: Report, port: int = 0) -> None:
        super().__init__(PreviewHandler, secrets.token_urlsafe(16), port=port)
        self.report, self.root = report, report.root
        self.files = [picture["file"] for picture in pictures(report)]
        entries = (row_entry(row, self.root) for row in report.rows)
        self.tuples: set[Entry] = {entry for entry in entries if entry}
        self._lock = threading.Lock()
        self._thumbnail = lru_cache(512)(thumbnail)

    def page(self) -> str:
        """The page with what is excluded at present."""

        def addresses(index: int, name: str) -> dict[str, str]:
            return {name: f"{name}/{index}" for name in SIDES}

        excluded = read_excluded(self.root)
        return page(self.report, excluded, served=True, addresses=addresses)

    def thumbnail(self, index: int, side: str) -> tuple[str, bytes]:
        """The `thumb` or `full` of a file; raises IndexError, OSError or ValueError."""
        return self._thumbnail(self.root / self.files[index], SIDES[side], self.report.kind)

    def decide(self, decision: Decision) -> None:
        """Store a decision; ValueError if it is about nothing in this set.

        Including a file again also includes all of its tuples.
        """
        file, instruction = decision.file, decision.instruction
        if instruction is not None:
            instruction = " ".join(instruction.split())
        known = file in self.files if instruction is None else (file, instruction) in self.tuples
        if not known:
            raise ValueError(f"{file!r} is not in this set")
        with self._lock:
            excluded = read_excluded(self.root)
            if decision.excluded:
                excluded.add((file, instruction))
            elif instruction is None:
                excluded = {entry for entry in excluded if entry[0] != file}
            else:
                excluded.discard((file, instruction))
            write_excluded(self.root, excluded)


class PreviewHandler(LocalHandler):
    """GET the page, `thumb/N` and `full/N`; POST `exclude` with the fields of a Decision."""

    server: PreviewServer

    def get(self, parts: list[str], query: dict[str, str]) -> None:
        """Send the page or a thumbnail."""
        match parts:
            case [""]:
                self.send_body(self.server.page().encode(), "text/html; charset=utf-8")
            case ["thumb" | "full" as side, index] if index.isascii() and index.isdecimal():
                try:
                    mime, data = self.server.thumbnail(int(index), side)
                except (IndexError, OSError, ValueError):
                    raise not_found() from None
                self.send_media(BytesIO(data), len(data), mime)
            case _:
                raise not_found()

    def post(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        """Store a decision."""
        if parts != ["exclude"]:
            raise not_found()
        try:
            self.server.decide(Decision.model_validate_json(body))
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        except OSError as error:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        self.send_json({})
