"""Store votes in SQLite as they are cast, so that a study can continue where it stopped."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from ..data import DataError, Problem
from ..files import atomic
from .items import Comparison

TABLES = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, instruction TEXT NOT NULL, grp TEXT NOT NULL
);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of voting
    rater TEXT NOT NULL,
    item TEXT NOT NULL REFERENCES items (name),
    won TEXT NOT NULL CHECK (won IN ('a', 'b')),
    on_left TEXT NOT NULL CHECK (on_left IN ('a', 'b')), -- what stood on the left
    seconds REAL NOT NULL, -- from seeing to voting
    at TEXT NOT NULL, -- UTC
    UNIQUE (rater, item) ON CONFLICT REPLACE
);
PRAGMA user_version = 1;
"""
VERSION = 1


class OtherStudyError(DataError):
    """A file of votes that belongs to another study."""


class Cast(NamedTuple):
    """A vote as it was cast."""

    rater: str
    item: str
    group: str
    won: str  # "a" or "b"
    on_left: str  # likewise
    seconds: float


class Study(NamedTuple):
    """The study that a file of votes belongs to."""

    name_a: str
    name_b: str
    secret: str  # decides who sees what on which side
    token: str  # of the page's address
    items: int


class VoteFile:
    """The file of a study's votes. Methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file of an existing study; DataError if it is none."""
        if not path.is_file():
            raise DataError(f"there is no file of votes {path}")
        self.path = path
        with self._open() as db:
            try:
                version = db.execute("PRAGMA user_version").fetchone()[0]
            except sqlite3.DatabaseError:
                version = None
            if version != VERSION:
                raise DataError(f"{path} is not a study's file of votes (version {version})")
            values = dict(db.execute("SELECT key, value FROM study"))
            count = db.execute("SELECT count(*) FROM items").fetchone()[0]
        self.study = Study(**values, items=count)

    @classmethod
    def begin(cls, path: Path, names: tuple[str, str], items: Iterable[Comparison]) -> VoteFile:
        """Create or continue a file; OtherStudyError if it holds votes on other contents."""
        if not path.exists():
            values = (*names, secrets.token_hex(16), secrets.token_urlsafe(8))
            with atomic(path) as temporary, closing(sqlite3.connect(temporary)) as db:
                db.executescript(TABLES)
                rows = zip(Study._fields[:4], values, strict=True)
                db.executemany("INSERT INTO study VALUES (?, ?)", rows)
                db.commit()
        votes = cls(path)
        votes._add(list(items))
        return cls(path)

    def _add(self, items: list[Comparison]) -> None:
        """Add new items; an item with a known name must have the known contents."""
        rows = {item.name: (item.digest(), item.instruction, item.group) for item in items}
        with self._open() as db:
            known = dict(db.execute("SELECT name, digest FROM items"))
            changed = [name for name in rows if known.get(name, rows[name][0]) != rows[name][0]]
            if changed:
                a, b = self.study.name_a, self.study.name_b
                raise OtherStudyError(
                    f"{self.path} belongs to a study of {a} (A) against {b} (B) with other files "
                    "or instructions",
                    [Problem(name, "other contents", "those of that study") for name in changed],
                )
            db.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET grp = excluded.grp",
                [(name, *row) for name, row in rows.items()],
            )

    def cast(self, rater: str, item: str, won: str, on_left: str, seconds: float) -> None:
        """Store a vote; a second one on the same item replaces the first."""
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        columns = "(rater, item, won, on_left, seconds, at)"
        with self._open() as db:
            db.execute(
                f"INSERT INTO votes {columns} VALUES (?, ?, ?, ?, ?, ?)",
                (rater, item, won, on_left, seconds, at),
            )

    def by(self, rater: str) -> dict[str, str]:
        """The votes of one rater: item -> "a" or "b", the latest last."""
        with self._open() as db:
            rows = db.execute("SELECT item, won FROM votes WHERE rater = ? ORDER BY id", (rater,))
            return dict(rows.fetchall())

    def counts(self) -> dict[str, int]:
        """The number of votes on each item."""
        with self._open() as db:
            return dict(db.execute("SELECT item, count(*) FROM votes GROUP BY item").fetchall())

    def all(self) -> list[Cast]:
        """Return all votes in the order of voting."""
        with self._open() as db:
            return [
                Cast(*row)
                for row in db.execute(
                    "SELECT rater, item, grp, won, on_left, seconds FROM votes "
                    "JOIN items ON items.name = votes.item ORDER BY id"
                )
            ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one transaction; other threads wait for it."""
        with closing(sqlite3.connect(self.path, timeout=30)) as db, db:
            yield db


def chance_of(secret: str, *what: str) -> int:
    """A uniform 64-bit number that depends only on the secret and the given names."""
    text = "\0".join((secret, *what)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
