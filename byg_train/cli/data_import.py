"""`data import`: another trainer's data set becomes a metadata.jsonl, or a style folder."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from ..config import ConfigError, nearest
from ..data import DataError, Problem, counted
from ..data.imports import READERS, Found, Options
from ..data.manifest import NAMES, write_manifest
from ..data.media_kind import found_kind
from ..data.rows import TEXTS
from ..files import atomic
from ..progress import Progress
from .data_check import PRESET


@dataclass(frozen=True)
class ImportFlags:
    """The options of `data import`."""

    source: Path
    kind: str
    output: Path | None
    style: str | None
    options: Options
    drop: bool
    force: bool


def run_import(flags: ImportFlags) -> None:
    """Read everything, refuse or drop what cannot be used, then write; the manifest comes last."""
    if flags.kind not in READERS:
        hint = f"{nearest(flags.kind, list(READERS))} (known: {', '.join(READERS)})"
        raise ConfigError(f"--from {flags.kind!r}: unknown{hint}")
    if flags.style is not None and Path(flags.style).name != flags.style:
        raise ConfigError(f"--style {flags.style!r}: wanted the name of a folder")
    if flags.style and not flags.output:
        raise ConfigError("--style needs --output: the folder that holds a folder for each style")
    if not flags.source.exists():
        raise DataError(f"{flags.source} does not exist")
    root = flags.output or (flags.source if flags.source.is_dir() else flags.source.parent)
    _check_free(root, flags)
    number, problems = _survey(root, flags)
    if problems and not flags.drop:
        hint = "repair them, or leave them out with --drop"
        raise DataError(f"{len(problems)} of {flags.source} cannot be used ({hint})", problems)
    if not number:
        raise DataError(f"{flags.source} leaves nothing to import", problems)
    rows = list(_written(root, flags, number, {problem.where for problem in problems}))
    if not flags.style:
        write_manifest(root, rows)
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    typer.echo(_farewell(root, flags, rows))


def _check_free(root: Path, flags: ImportFlags) -> None:
    there = [root / name for name in NAMES if (root / name).exists()]
    if there and not flags.style and not (flags.force and there == [root / NAMES[0]]):
        raise DataError(
            f"{there[0]} is already there; choose another --output, or replace a {NAMES[0]} with "
            "--force (it is kept as .bak)"
        )


def _survey(root: Path, flags: ImportFlags) -> tuple[int, list[Problem]]:
    """How many files can be used, and what is wrong with the others."""
    number, problems, taken = 0, [], {}
    for found in READERS[flags.kind](flags.source, flags.options):
        problem = found if isinstance(found, Problem) else _misplaced(found, root, flags)
        if problem is None and flags.output:
            problem = _clash(found, flags, taken)
        number += problem is None
        problems += [problem] if problem else []
    return number, problems


def _misplaced(found: Found, root: Path, flags: ImportFlags) -> Problem | None:
    """What is only referred to must lie in the folder of the manifest that refers to it."""
    if flags.output:
        return None
    if isinstance(found.content, bytes):
        return Problem(found.where, "a picture inside a table", "--output DIR, to write it to")
    if not found.content.resolve().is_relative_to(root.resolve()):
        wanted = "--output DIR, to copy everything to"
        return Problem(found.where, f"{found.content}, which is outside of {root}", wanted)
    return None


def _clash(found: Found, flags: ImportFlags, taken: dict[Path, str]) -> Problem | None:
    """Two files for one place; `taken` remembers whose the places are."""
    name = _name(found, flags)
    places = {name: str(found.content) if isinstance(found.content, Path) else found.where}
    if flags.style:
        places[name.with_suffix(".txt")] = found.fields["src_caption"]
    for place, content in places.items():
        if taken.setdefault(place, content) != content:
            return Problem(found.where, f"a second {place}", "another file name")
    return None


def _name(found: Found, flags: ImportFlags) -> Path:
    """Where a copy goes in --output; style folders are flat."""
    return Path(flags.style, found.name.replace("/", "_")) if flags.style else Path(found.name)


def _written(root: Path, flags: ImportFlags, number: int, without: set[str]) -> Iterator[dict]:
    """Bring the files to their places; a row for each."""
    with Progress(number, "importing") as progress:
        for found in READERS[flags.kind](flags.source, flags.options):
            if isinstance(found, Problem) or found.where in without:
                continue
            if flags.output:
                name = _name(found, flags)
                _put(found.content, root / name)
            else:
                name = found.content.resolve().relative_to(root.resolve())
            if flags.style:
                caption = f"{found.fields['src_caption'].strip()}\n"
                _put(caption.encode(), (root / name).with_suffix(".txt"))
            progress.advance()
            yield {"file_name": name.as_posix(), **found.fields}


def _put(content: Path | bytes, target: Path) -> None:
    """Write a file; one that is there already must be the same."""
    if target.exists():
        same = (
            target.read_bytes() == content
            if isinstance(content, bytes)
            else filecmp.cmp(content, target, shallow=False)
        )
        if not same:
            raise DataError(f"{target} is already there, and is another file; move it away first")
        return
    with atomic(target) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)


def _farewell(root: Path, flags: ImportFlags, rows: list[dict]) -> str:
    if flags.style:
        there = root / flags.style
        preset, _ = PRESET[found_kind(there)]
        return (
            f"In {there}: {counted(len(rows), 'file')} with captions. With a second style folder "
            f"beside it, train:\n  python -m byg_train --preset {preset} --data {root}"
        )
    lacking = sum(not all(row.get(name) for name in TEXTS) for row in rows)
    told = f"In {root / NAMES[0]}: {counted(len(rows), 'tuple')}"
    if lacking:
        return (
            f"{told}; {lacking} of them have a caption and lack the other texts, without which "
            f"they cannot be trained on. `data caption` has them written by a vision-language "
            f"model; or import with --style, if the edit is a change of style."
        )
    return f"{told}. Check them:\n  python -m byg_train data check {root}"
