"""Read musubi-tuner data sets: a .toml with the folders and .jsonl files it names, or a .jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...config import read_toml
from .. import DataError, Problem
from ..manifest import manifest_rows
from ..names import FileNames
from ..rule_codes import NO_FILES, PAIRS
from .common import Imported, Options, Read, captioned, listed, place, repeated, unusable


def musubi(source: Path, options: Options) -> Iterator[Read]:
    """Read a data set's .toml with every folder and .jsonl that it names, or one such .jsonl."""
    source = _config_of(source)
    if source.suffix == ".jsonl":
        yield from _musubi_lines(source, {}, "", options)
        return
    tables = read_toml(source)
    general, datasets = tables.get("general", {}), tables.get("datasets")
    tabled = isinstance(datasets, list) and all(isinstance(own, dict) for own in datasets)
    if not tabled or not datasets or not isinstance(general, dict):
        raise DataError(f"{source} has no [[datasets]]; wanted a musubi-tuner data set config")
    for number, own in enumerate(datasets, 1):
        where = f"{source.name} [[datasets]] {number}"
        # Several data sets may hold files of the same name.
        prefix = f"{number}/" if len(datasets) > 1 else ""
        yield from _musubi_set(source, {**general, **own}, where, prefix, options)


def _config_of(source: Path) -> Path:
    if source.is_file() and source.suffix in (".toml", ".jsonl"):
        return source
    configs = sorted(source.glob("*.toml")) or sorted(source.glob("*.jsonl"))
    if len(configs) != 1:
        names = ", ".join(path.name for path in configs) or "none"
        raise DataError(
            f"{source}: wanted a musubi-tuner .toml or .jsonl, or a folder with exactly one "
            f"(found {names})"
        )
    return configs[0]


def _musubi_set(
    source: Path, table: dict[str, Any], where: str, prefix: str, options: Options
) -> Iterator[Read]:
    if problem := unusable(table, where, "control_"):
        yield problem
        return
    folder, lines = _first(table, "directory"), _first(table, "jsonl_file")
    if not isinstance(folder or lines, str):
        wanted = "image_directory, video_directory, image_jsonl_file or video_jsonl_file"
        yield Problem(where, "no files", wanted, NO_FILES)
        return
    repeats, path = repeated(table), place(folder or lines, source)
    if not (path.is_dir() if folder else path.is_file()):
        wanted = f"a {'folder' if folder else 'file'} beside {source.name} or in {Path.cwd()}"
        yield Problem(where, f"{path}, which does not exist", wanted, NO_FILES)
        return
    if not folder:
        yield from _musubi_lines(path, repeats, prefix, options)
        return
    for item in captioned(path, table.get("caption_extension", ".txt"), prefix, deep=False):
        if isinstance(item, Imported):
            item.fields.update(repeats)
        yield item


def _musubi_lines(
    source: Path, repeats: dict[str, int], prefix: str, options: Options
) -> Iterator[Read]:
    files = FileNames((options.root or source.parent).resolve())
    rows, problems = manifest_rows(source)
    yield from problems
    for row in rows:
        where = f"{prefix}{row.where}"
        if control := next((key for key in row.fields if key.startswith("control_")), None):
            yield Problem(where, f"{control}: a pair", "pictures or clips alone", PAIRS)
            continue
        name, caption = _first(row.fields, "path"), row.fields.get(options.caption_key or "caption")
        fields = {"src_caption": caption, **repeats}
        yield listed(files, where, "image_path or video_path", name, prefix, fields)


def _first(table: dict[str, Any], what: str) -> Any:
    """The entry for pictures, or else the one for clips."""
    return table.get(f"image_{what}") or table.get(f"video_{what}")
