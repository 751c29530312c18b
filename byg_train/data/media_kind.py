"""The media in a data folder, pictures or clips; what other programs leave there is left alone."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..config import DataConfig
from ..family import usual_family
from ..media.formats import CLIPS, PICTURES, Formats
from . import DataError, counted

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


def visible_files(root: Path) -> Iterator[Path]:
    """Yield files at any depth in order of their names, without hidden and foreign ones.

    Folders that are links are walked too, each folder once.
    """
    walked = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in walked:
            folders.clear()
            continue
        walked.add(place)
        folders[:] = sorted(name for name in folders if not foreign_folder(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(files) if not foreign_file(name))


def media_files(folder: Path, kind: Formats) -> Iterator[Path]:
    """Yield the visible files of a kind, at any depth, in order of their names."""
    return (path for path in visible_files(folder) if kind.holds(path))


def media_names(root: Path, kind: Formats) -> list[str]:
    """The names of all such files, relative to the folder."""
    return sorted(path.relative_to(root).as_posix() for path in media_files(root, kind))


def kind_of(data: DataConfig) -> Formats:
    """The kind of media that a run trains on."""
    return PICTURES if data.frames == 1 else CLIPS


def found_kind(root: Path) -> Formats:
    """The kind of media that a folder holds; clips may have a preview picture each."""
    clips = media_names(root, CLIPS)
    return CLIPS if clips and len(clips) >= len(media_names(root, PICTURES)) else PICTURES


def expect_kind(root: Path, data: DataConfig) -> None:
    """Raise DataError for a folder that holds only the other kind of media."""
    wanted = kind_of(data)
    other = CLIPS if wanted is PICTURES else PICTURES
    if media_names(root, wanted) or not (others := media_names(root, other)):
        return
    preset = usual_family(is_video=other is CLIPS).usual.style_preset
    raise DataError(
        f"{root} holds {counted(len(others), other.one)} and no {wanted.many}, and this run trains "
        f"on {wanted.many} (data.frames {data.frames}); for {other.many} take another preset, such "
        f"as {preset}, or pass a folder of {wanted.many}"
    )


def style_folder(path: Path, root: Path) -> Path:
    """The style folder that a file lies in, at whatever depth."""
    return root / path.relative_to(root).parts[0]


log = logging.getLogger("byg_train")


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
