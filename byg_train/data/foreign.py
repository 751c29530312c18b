"""What other programs, and runs of byg_train, leave inside a data folder; it is left alone."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

log = logging.getLogger("byg_train")

# Folders by their names, in any letter case, beside all hidden ones.
FOLDERS = {
    "__macosx": "macOS",
    "@eadir": "Synology",
    "#recycle": "Synology",
    "@tmp": "Synology",
    "@recycle": "QNAP",
    "@recently-snapshot": "QNAP",
    "$recycle.bin": "Windows",
    "recycler": "Windows",
    "system volume information": "Windows",
    "lost+found": "a file system",
    "__pycache__": "Python",
    "_controls": "ai-toolkit",
}
# ai-toolkit's _latent_cache, _t_e_cache, _clip_vision_cache; others call theirs alike.
CACHE = re.compile(r"_\w*cache")
# Files of a cache that is called otherwise, such as musubi-tuner's cache_directory.
CACHED = (".npz", ".npy", ".safetensors", ".pt", ".pth")
HIDDEN = "hidden"
FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
# Sections that no configuration but that of a run of ours has together.
RUN = re.compile(r"^\[method\]$.*^\[rollout\]$", re.MULTILINE | re.DOTALL)


def foreign_folder(folder: Path) -> str | None:
    """Whose a folder inside a data folder is; None if it may hold data."""
    name = folder.name.casefold()
    if name.startswith("."):
        return HIDDEN
    if name in FOLDERS:
        return FOLDERS[name]
    if CACHE.fullmatch(name):
        return "a cache"
    if "cache" in name and _holds_only(folder, CACHED):
        return "a cache"
    return "a run of byg_train" if is_run(folder) else None


def foreign_file(name: str) -> bool:
    """Whether a file is an operating system's own: hidden, such as `._cat.png`, or `Thumbs.db`."""
    return name.startswith(".") or name.casefold() in FILES


def _holds_only(folder: Path, endings: tuple[str, ...]) -> bool:
    names = [name for _, _, files in os.walk(folder) for name in files if not foreign_file(name)]
    return bool(names) and all(name.lower().endswith(endings) for name in names)


def holds_foreign_alone(folder: Path) -> bool:
    """Whether a folder is there for foreign ones inside it, such as `runs`."""
    inside = [path for path in folder.iterdir() if not foreign_file(path.name)]
    return bool(inside) and all(
        path.is_dir() and (foreign_folder(path) or holds_foreign_alone(path)) for path in inside
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is the output of a run."""
    config = folder / "config.toml"
    try:
        return bool(RUN.search(config.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


def note_foreign(root: Path) -> None:
    """Tell which folders are left alone, but for hidden ones."""
    left = []
    for folder, folders, _ in os.walk(root):
        whose = {name: foreign_folder(Path(folder, name)) for name in sorted(folders)}
        folders[:] = [name for name in folders if not whose[name]]
        left += [f"{Path(folder, name).relative_to(root).as_posix()}/ ({who})"
                 for name, who in whose.items() if who and who != HIDDEN]  # fmt: skip
    if left:
        log.info("left alone in %s: %s", root, ", ".join(left))
