"""What other trainers keep, read as pictures with fields: musubi-tuner, ai-toolkit, Hugging Face.

Readers yield one `Found` or one `Problem` per picture, and read again from the start when they are
called again. A name never leads out of the folder that a data set lives in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from PIL import Image

from ..config import read_toml
from . import DataError, Problem
from .manifest import FIELDS, find_manifest, manifest_rows
from .pictures import KINDS, SUFFIXES
from .repair import SPLIT_NAMES

CAPTIONS = ("src_caption", "caption", "text")
WRITTEN_AS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
# Rows of a parquet file that are in memory at once; each may hold a picture.
ROWS = 16


class Found(NamedTuple):
    """A picture of the other tool."""

    where: str
    content: Path | bytes
    name: str  # in the folder of its data set
    fields: dict[str, Any]  # of ours: src_caption, split, ...


class Options(NamedTuple):
    """How to read."""

    caption_key: str | None = None  # a column; None: the first of CAPTIONS that is there
    image_key: str = "image"  # a column of pictures inside a parquet file
    root: Path | None = None  # where the paths of a musubi JSONL may lead; None: the file's folder


Reader = Callable[[Path, Options], Iterator[Found | Problem]]


# ---------------------------------------------------------------- ai-toolkit


def ai_toolkit(source: Path, options: Options) -> Iterator[Found | Problem]:
    """A folder of pictures, each with a .txt of the same name."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder; wanted the folder_path of an ai-toolkit data set")
    # Folders inside count too, but not the maps that ai-toolkit makes for itself.
    names = (path.relative_to(source) for path in source.rglob("*"))
    yield from _captioned(source, [n for n in names if n.parent.name != "_controls"], "txt", "")


def _captioned(
    folder: Path, names: Iterable[Path], extension: str, prefix: str
) -> Iterator[Found | Problem]:
    seen = (name for name in names if not any(part.startswith(".") for part in name.parts))
    pictures = sorted(name for name in seen if name.suffix.lower() in SUFFIXES)
    if not pictures:
        raise DataError(f"{folder} holds no pictures; wanted {KINDS} files")
    for name in pictures:
        path, where = folder / name, f"{prefix}{name.as_posix()}"
        beside = path.with_suffix(f".{extension.lstrip('.')}")
        try:
            caption = " ".join(beside.read_text(encoding="utf-8-sig").split())
        except FileNotFoundError:
            yield Problem(where, "no caption", f"a caption in {beside.name} beside it")
            continue
        except UnicodeDecodeError:
            yield Problem(where, f"{beside.name} is not UTF-8", "a caption in UTF-8")
            continue
        yield _described(Found(where, path, where, {"src_caption": caption}))


def _described(found: Found) -> Found | Problem:
    caption = found.fields.get("src_caption")
    if not isinstance(caption, str) or not caption.strip():
        return Problem(found.where, "no caption", "a text that describes the picture")
    return found


# ---------------------------------------------------------------- musubi-tuner


def musubi(source: Path, options: Options) -> Iterator[Found | Problem]:
    """A data set's .toml with every folder and .jsonl that it names, or one such .jsonl."""
    source = _config_of(source)
    if source.suffix == ".jsonl":
        yield from _musubi_lines(source, {}, "", options)
        return
    tables = read_toml(source)
    general, datasets = tables.get("general", {}), tables.get("datasets")
    if not isinstance(datasets, list) or not datasets or not isinstance(general, dict):
        raise DataError(f"{source} has no [[datasets]]; wanted a musubi-tuner data set config")
    for number, own in enumerate(datasets, 1):
        where = f"{source.name} [[datasets]] {number}"
        # Several data sets may hold files of the same name.
        prefix = f"{number}/" if len(datasets) > 1 else ""
        yield from _musubi_set(source, {**general, **own}, where, prefix, options)


def _config_of(source: Path) -> Path:
    if source.is_file() and source.suffix in (".toml", ".jsonl"):
        return source
    found = sorted(source.glob("*.toml")) or sorted(source.glob("*.jsonl"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{source}: wanted a musubi-tuner .toml or .jsonl, or a folder with exactly one "
            f"(found {names})"
        )
    return found[0]


def _musubi_set(
    source: Path, table: dict[str, Any], where: str, prefix: str, options: Options
) -> Iterator[Found | Problem]:
    if control := next((key for key in table if key.startswith("control_")), None):
        yield Problem(where, f"{control}: pairs, whose captions are instructions", "pictures alone")
        return
    folder, lines = table.get("image_directory"), table.get("image_jsonl_file")
    if not isinstance(folder or lines, str):
        kind = "a data set of clips" if any(k.startswith("video") for k in table) else "no pictures"
        yield Problem(where, kind, "image_directory or image_jsonl_file")
        return
    repeats = {"repeats": n} if (n := table.get("num_repeats", 1)) != 1 else {}
    path = source.parent / Path(folder or lines).expanduser()
    if not path.exists():
        yield Problem(where, f"{path}, which does not exist", "a folder or file that does")
        return
    if not folder:
        yield from _musubi_lines(path, repeats, prefix, options)
        return
    names = [Path(inside.name) for inside in path.iterdir()]
    for found in _captioned(path, names, table.get("caption_extension", ".txt"), prefix):
        if isinstance(found, Found):
            found.fields.update(repeats)
        yield found


def _musubi_lines(
    source: Path, repeats: dict[str, int], prefix: str, options: Options
) -> Iterator[Found | Problem]:
    base = (options.root or source.parent).resolve()
    rows, problems = manifest_rows(source)
    yield from problems
    for row in rows:
        where = f"{prefix}{row.where}"
        if control := next((key for key in row.fields if key.startswith("control_")), None):
            yield Problem(where, f"{control}: a pair", "pictures alone")
            continue
        name = row.fields.get("image_path")
        path = _inside(base, name)
        if path is None:
            hint = f"an image_path inside {base} (or pass --root with the folder that holds all)"
            yield Problem(where, f"image_path {name!r}", hint)
            continue
        caption = row.fields.get(options.caption_key or "caption")
        fields = {"src_caption": caption, **repeats}
        yield _present(Found(where, path, f"{prefix}{_relative(path, base)}", fields))


# ---------------------------------------------------------------- Hugging Face


def huggingface(source: Path, options: Options) -> Iterator[Found | Problem]:
    """An ImageFolder with metadata.jsonl, .csv or .parquet, or parquet files with the pictures."""
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
) -> Iterator[Found | Problem]:
    rows, problems = manifest_rows(manifest)
    prefix = "" if folder == source else f"{folder.name}/"
    yield from (problem._replace(where=f"{prefix}{problem.where}") for problem in problems)
    base = folder.resolve()
    for row in rows:
        where, name = f"{prefix}{row.where}", row.fields.get("file_name")
        path = _inside(base, name)
        if path is None:
            yield Problem(where, f"file_name {name!r}", f"a path inside {folder}")
            continue
        fields = _ours(row.fields, options, SPLIT_NAMES.get(folder.name))
        yield _present(Found(where, path, f"{prefix}{_relative(path, base)}", fields))


def _embeds(manifest: Path) -> bool:
    return "file_name" not in _parquet(manifest).schema_arrow.names


def _hub_pictures(source: Path, shard: Path, options: Options) -> Iterator[Found | Problem]:
    """The pictures inside of a parquet file, named by shard and row."""
    table = _parquet(shard)
    if options.image_key not in (names := table.schema_arrow.names):
        raise DataError(
            f"{shard} has no column {options.image_key!r}; its columns are {', '.join(names)}: "
            "name the one with the pictures by --image-key"
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
                yield Problem(where, f"no picture in {options.image_key!r}", KINDS)
                continue
            name = f"{shard.stem}-{number:06d}{suffix}"
            yield _described(Found(where, data, name, _ours(fields, options, split)))


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
    """The ending for a picture file's bytes; None if they are none."""
    try:
        with Image.open(BytesIO(data)) as picture:
            return WRITTEN_AS.get(picture.format or "")
    except Exception:  # decoders raise whatever they like on broken bytes
        return None


def _ours(fields: dict[str, Any], options: Options, split: str | None) -> dict[str, Any]:
    """The fields that we know, the caption under our name."""
    ours = {name: fields[name] for name in FIELDS[1:] if fields.get(name) is not None}
    keys = (options.caption_key,) if options.caption_key else CAPTIONS
    caption = next((fields[key] for key in keys if fields.get(key)), None)
    if isinstance(ours.get("split"), str):
        split = SPLIT_NAMES.get(ours["split"].lower(), ours["split"])
    return {**ours, "src_caption": caption, **({"split": split} if split else {})}


# ---------------------------------------------------------------- paths


def _inside(base: Path, name: Any) -> Path | None:
    """The path that a name means, if it leads nowhere out of a folder."""
    if not isinstance(name, str) or not name.strip():
        return None
    name = name.strip()
    if ".." in {*Path(name).parts, *PureWindowsPath(name).parts}:
        return None
    path = base / Path(name).expanduser()
    return path if path.is_relative_to(base) else None


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _present(found: Found) -> Found | Problem:
    if found.content.suffix.lower() not in SUFFIXES:
        return Problem(found.where, f"file type {found.content.suffix!r}", KINDS)
    if not found.content.is_file():
        return Problem(found.where, f"no file {found.content}", "a picture of that name")
    return _described(found)


READERS: dict[str, Reader] = {
    "musubi": musubi,
    "ai-toolkit": ai_toolkit,
    "huggingface": huggingface,
}
