"""Read Hugging Face data sets: ImageFolder, VideoFolder, or parquet files with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ...media.formats import PICTURES
from .. import DataError, Problem
from ..manifest import CAPTIONS, FIELDS, Parquet, find_manifest, manifest_rows
from ..names import FileNames
from ..repair import SPLIT_NAMES
from ..rule_codes import UNREADABLE
from .common import Imported, Options, Read, described, listed

# A phone's JPEG of several pictures is an MPO to Pillow; JPEG's readers show its first picture.
WRITTEN_AS = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm"}


def huggingface(source: Path, options: Options) -> Iterator[Read]:
    """Read a folder with metadata.jsonl, .csv or .parquet, or parquet files with the pictures."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder; wanted a data set folder in Hugging Face's layout")
    folders = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
    manifests = [(f, m) for f in folders if (m := find_manifest(f))]
    for folder, manifest in manifests:
        if manifest.suffix != ".parquet" or not _embeds(manifest):
            yield from _hub_rows(source, folder, manifest, options)
    shards = [m for _, m in manifests if m.suffix == ".parquet" and _embeds(m)]
    if not manifests:  # the shards that datasets itself writes
        shards = sorted(source.rglob("*.parquet"))
    if not manifests and not shards:
        raise DataError(
            f"{source} holds neither metadata.jsonl, .csv or .parquet nor parquet files"
        )
    for shard in shards:
        yield from _hub_pictures(source, shard, options)


def _hub_rows(source: Path, folder: Path, manifest: Path, options: Options) -> Iterator[Read]:
    rows, problems = manifest_rows(manifest)
    prefix = "" if folder == source else f"{folder.name}/"
    yield from (problem._replace(where=f"{prefix}{problem.where}") for problem in problems)
    files, split = FileNames(folder.resolve()), SPLIT_NAMES.get(folder.name)
    for row in rows:
        where, name = f"{prefix}{row.where}", row.fields.get("file_name")
        yield listed(files, where, "file_name", name, prefix, _ours(row.fields, options, split))


def _embeds(manifest: Path) -> bool:
    return "file_name" not in Parquet(manifest).columns


def _hub_pictures(source: Path, shard: Path, options: Options) -> Iterator[Read]:
    """Yield the pictures inside a parquet file, named by shard and row."""
    table = Parquet(shard)
    if options.image_key not in table.columns:
        raise DataError(
            f"{shard} has no column {options.image_key!r}; its columns are "
            f"{', '.join(table.columns)}: name the one that holds the pictures"
        )
    split = SPLIT_NAMES.get(shard.stem.split("-")[0])
    for number, fields in enumerate(table.rows(), 1):
        where = f"{shard.relative_to(source).as_posix()}, row {number}"
        cell = fields.pop(options.image_key)
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        suffix = _suffix(data)
        if suffix is None:
            found = f"no picture in {options.image_key!r}"
            yield Problem(where, found, PICTURES.words, UNREADABLE)
            continue
        name = f"{shard.stem}-{number:06d}{suffix}"
        yield described(Imported(where, data, name, _ours(fields, options, split)))


def _suffix(data: Any) -> str | None:
    """The file suffix for the bytes of a picture; None if they are no picture."""
    try:
        with Image.open(BytesIO(data)) as picture:
            kind = picture.format or ""
            return WRITTEN_AS.get(kind, f".{kind.lower()}")
    except Exception:  # decoders raise whatever they like on broken bytes
        return None


def _ours(fields: dict[str, Any], options: Options, split: str | None) -> dict[str, Any]:
    """The fields that we use, with the caption under our name."""
    ours = {name: fields[name] for name in FIELDS[1:] if fields.get(name) is not None}
    keys = (options.caption_key,) if options.caption_key else CAPTIONS
    caption = next((fields[key] for key in keys if fields.get(key)), None)
    if isinstance(ours.get("split"), str):
        split = SPLIT_NAMES.get(ours["split"].lower(), ours["split"])
    return {**ours, "src_caption": caption, **({"split": split} if split else {})}
