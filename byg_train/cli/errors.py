"""Faults of the machine in the words of a person: what happened, and what to do."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ..config import ConfigError
from ..data import DataError
from ..files import is_plain_name, why_not_writable
from ..progress import CONSOLE
from ..training.processes import launched
from ..training.stopping import Interrupted, SavedAndStopped


@contextmanager
def out_of_memory_explained(advice: str) -> Iterator[None]:
    """A full GPU is one sentence and exit code 1."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        typer.echo(f"error: the GPU's memory is full; {advice}", err=True)
        raise typer.Exit(1) from None


def others_are_quiet() -> None:
    """Let only the main one of several processes talk; faults of others are still heard."""
    if launched()[0]:
        CONSOLE.quiet = True
        logging.getLogger("byg_train").setLevel(logging.ERROR)
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


@contextmanager
def interruption_explained() -> Iterator[None]:
    """Being stopped is a message, and the exit code that shells expect of it."""
    try:
        yield
    except Interrupted as stop:
        saved = isinstance(stop, SavedAndStopped)
        go_on = " Run the same command with --resume to go on." if saved else ""
        typer.echo(f"{stop}{go_on}", err=True)
        raise typer.Exit(stop.code) from None


def expect_writable(folder: Path) -> None:
    """ConfigError where nothing can be written; asked before anything is loaded."""
    if why := why_not_writable(folder):
        raise ConfigError(f"{folder} cannot be written ({why}); free it, or choose another folder")


def expect_no_manifest(root: Path, force: bool) -> None:
    """DataError for a manifest that is there; with `force`, a metadata.jsonl may be replaced."""
    from ..data.manifest import NAMES, find_manifest

    manifest = find_manifest(root)
    if manifest and not (force and manifest.name == NAMES[0]):
        raise DataError(
            f"{manifest} is already there; --force replaces a {NAMES[0]} (it is kept as .bak)"
        )


@contextmanager
def full_disk_explained(output: Path, go_on: str) -> Iterator[None]:
    """A full disk says what is whole and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ConfigError(
            f"the disk is full ({error.filename or output}); every file written before is whole. "
            f"Make room and run the same command {go_on}"
        ) from None


def expect_folder_name(what: str, name: str) -> None:
    """ConfigError unless a name is that of a visible folder inside another."""
    if not is_plain_name(name):
        raise ConfigError(f"{what} {name!r}: wanted the name of a folder, such as photo")
