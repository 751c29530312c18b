"""Read Hugging Face data sets: ImageFolder, VideoFolder, or parquet files with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from .. import DataError, Problem
from ..manifest import FIELDS, find_manifest, manifest_rows
from ..media_kind import PICTURES
from ..names import FileNames
from ..repair import SPLIT_NAMES
from ..rule_codes import OUTSIDE, UNREADABLE
from ..unused import Unused
from .common import Found, Options, described, inside, present, relative

CAPTIONS = ("src_caption", "caption", "text")
# A phone's JPEG of several pictures is an MPO to Pillow; JPEG's readers show its first picture.
WRITTEN_AS = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm"}
# Rows of a parquet file that are in memory at once; each may hold a picture.
ROWS = 16


def huggingface(source: Path, options: Options) -> Iterator[Found | Problem | Unused]:
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


def _hub_rows(
    source: Path, folder: Path, manifest: Path, options: Options
) -> Iterator[Found | Problem | Unused]:
    rows, problems = manifest_rows(manifest)
    prefix = "" if folder == source else f"{folder.name}/"
    yield from (problem._replace(where=f"{prefix}{problem.where}") for problem in problems)
    base = folder.resolve()
    files = FileNames(base)
    for row in rows:
        where, name = f"{prefix}{row.where}", row.fields.get("file_name")
        path = inside(files, name)
        if path is None:
            yield Problem(where, f"file_name {name!r}", f"a path inside {folder}", OUTSIDE)
            continue
        fields = _ours(row.fields, options, SPLIT_NAMES.get(folder.name))
        yield present(Found(where, path, f"{prefix}{relative(path, base)}", fields))


def _embeds(manifest: Path) -> bool:
    return "file_name" not in _parquet(manifest).schema_arrow.names


def _hub_pictures(
    source: Path, shard: Path, options: Options
) -> Iterator[Found | Problem | Unused]:
    """Yield the pictures inside a parquet file, named by shard and row."""
    table = _parquet(shard)
    if options.image_key not in (names := table.schema_arrow.names):
        raise DataError(
            f"{shard} has no column {options.image_key!r}; its columns are {', '.join(names)}: "
            "name the one that holds the pictures"
        )
    split, number = SPLIT_NAMES.get(shard.stem.split("-")[0]), 0
    for batch in table.iter_batches(batch_size=ROWS):
        for fields in batch.to_pylist():
            number += 1
            where = f"{shard.relative_to(source).as_posix()}, row {number}"
            cell = fields.pop(options.image_key)
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            suffix = _suffix(data)
            if suffix is None:
                found = f"no picture in {options.image_key!r}"
                yield Problem(where, found, PICTURES.formats.words, UNREADABLE)
                continue
            name = f"{shard.stem}-{number:06d}{suffix}"
            yield described(Found(where, data, name, _ours(fields, options, split)))


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path} needs the datasets package (pip install datasets)") from None
    try:
        return ParquetFile(path)
    except ArrowInvalid as error:
        raise DataError(f"{path} cannot be read: {error}") from None


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
