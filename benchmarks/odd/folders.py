"""Folders that other programs, other trainers and our own runs leave in a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.odd.case import Case, captioned, check, found, picture, styles, tuples

FOREIGN = (
    "__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
    "_latent_cache", "_t_e_cache", "_clip_vision_cache", "__pycache__", ".ipynb_checkpoints",
    ".byg_cache", ".git", ".Trash-1000", ".thumbnails",
)  # fmt: skip
FILES = ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", ".hidden.png", "Icon\r")
# Folder -> phrase, repeats.
KOHYA = {
    "10_photo": ("photo", 10), "1_photo": ("photo", 1), "005_photo": ("photo", 5),
    "3_3d-cartoon": ("3d cartoon", 3), "12_sks dog": ("sks dog", 12), "7_foto_é": ("foto é", 7),
}  # fmt: skip
PLAIN = {"1990_film": "1990 film", "3d-cartoon": "3d cartoon", "80s": "80s", "10_10": "10 10"}


def run(folder: Path) -> Path:
    """What a run of byg_train leaves: settings, samples, a LoRA."""
    from byg_train.config import merge_settings
    from byg_train.training.run_folder import write_config

    write_config(folder, merge_settings("flux_style"))
    picture(folder / "samples" / "step-000500.png")
    (folder / "metrics.jsonl").write_text("{}")
    (folder / "run.safetensors").write_bytes(b"")
    return folder


def _foreign(name: str, root: Path) -> list[object]:
    styles(root)
    captioned(root / name / "x.png", 3)
    captioned(root / "photo" / name / "x.png", 4)
    return check(root)


def _file(name: str, root: Path) -> list[object]:
    for folder in (styles(root), root / "photo"):
        (folder / name).write_bytes(b"\0\1\2")
    return check(root)


def _run(name: str, root: Path) -> list[object]:
    run(styles(root) / name)
    return check(root)


def _caches(ending: str, root: Path) -> list[object]:
    cache = styles(root) / "cache_512"
    cache.mkdir()
    (cache / f"0{ending}").write_bytes(b"")
    return check(root)


def _named(names: tuple[str, ...], root: Path) -> list[object]:
    return check(styles(root, names))


def _spoken(phrase: str, repeats: int, folder: Path, printed: str) -> str | None:
    from byg_train.data.media_kind import PICTURES
    from byg_train.data.rows import read_rows

    rows = [row.fields for row in read_rows(folder, None, PICTURES)[0]]
    said = {row["src_caption"].rpartition(", ")[2] for row in rows if row["file_name"][0] != "i"}
    times = {row.get("repeats", 1) for row in rows if row["file_name"][0] != "i"}
    if (said, times) == ({f"{phrase} style"}, {repeats}):
        return None
    return f"captions say {said}, repeats {times}"


def cases() -> Iterator[Case]:
    for name in FOREIGN:
        yield Case(f"{name}/", partial(_foreign, name), 0, (), tuples(4))
    for name in FILES:
        yield Case(repr(name), partial(_file, name), 0, (), tuples(4))
    for name in ("run1", "runs/photo", "out/a/b", "photo/run1"):
        yield Case(f"a run in {name}/", partial(_run, name), 0, (), tuples(4))
    for ending in (".npz", ".safetensors", ".pt"):
        yield Case(f"a cache of {ending} files", partial(_caches, ending), 0, (), tuples(4))
    for name, (phrase, repeats) in KOHYA.items():
        spoken = partial(_spoken, phrase, repeats)
        yield Case(f"{name}/, of kohya", partial(_named, (name, "ink")), 0, (), spoken)
    for name, phrase in PLAIN.items():
        spoken = partial(_spoken, phrase, 1)
        yield Case(f"{name}/, a plain name", partial(_named, (name, "ink")), 0, (), spoken)
    zero = found("repeats", "0_photo/")
    yield Case("0_photo/", partial(_named, ("0_photo", "ink")), 1, (), zero)
    same = ("2 style folders are called 'photo'",)
    yield Case("photo/ and 10_photo/", partial(_named, ("photo", "10_photo")), 2, same)
    yield Case("an empty folder", _empty, 1, (), found("no files", "void/"))
    yield Case("a folder of texts", _texts, 1, (), found("no files", "notes/"))


def _empty(root: Path) -> list[object]:
    (styles(root) / "void").mkdir()
    return check(root)


def _texts(root: Path) -> list[object]:
    (styles(root) / "notes").mkdir()
    (root / "notes" / "todo.txt").write_text("buy milk")
    return check(root)
