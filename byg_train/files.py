"""Writing files so that a reader, a kill or a full disk never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any


def temporary_of(path: Path) -> Path:
    """What a file or folder is called while it is written, beside `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder name beside `path`; on success it takes path's place.

    On any error what was at `path` stays as it was and the temporary is removed. A folder replaces
    only a folder that does not exist yet (checkpoints are never overwritten).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    try:
        yield temporary
        for part in [*temporary.rglob("*"), temporary]:
            if part.is_file():
                with part.open("r+b") as file:  # Windows syncs only what may be written
                    os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # Of a full disk nobody says which file, and FFmpeg says `file:` and the temporary one.
        if error.errno is not None and str(error.filename or temporary).endswith(str(temporary)):
            error.filename = str(path)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            with suppress(OSError):  # there is none, or a folder that cannot be written
                temporary.unlink()


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file, as one process at a time can; whether this one does. A kill lets it go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        is_held = _lock(file.fileno())
        try:
            yield is_held
        finally:
            if is_held:
                with suppress(OSError):  # Windows removes nothing that is open
                    path.unlink()


def _lock(file: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system that knows no locks holds nobody back.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be written in a folder, which need not exist yet; None if one can."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        return error.strerror or str(error)
    return None


def copy_file(source: Path, target: Path) -> Path:
    """Copy a file's content, whole or not at all; returns the target."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a visible file or folder inside another, on any system."""
    return bool(name) and Path(name).name == name and name[0] != "." and "\\" not in name


def keep_as_bak(path: Path) -> None:
    """Copy a file to NAME.bak beside it; another that is there moves to NAME.1.bak, .2.bak, ..."""
    bak = path.with_name(f"{path.name}.bak")
    if bak.exists() and bak.read_bytes() != path.read_bytes():
        numbered = (path.with_name(f"{path.name}.{n}.bak") for n in count(1))
        bak.replace(next(free for free in numbered if not free.exists()))
    copy_file(path, bak)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))
