"""Read ai-toolkit data sets: a folder with captions, or the .yaml of a training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import DataError, Problem
from ..unused import Unused
from .common import Found, Options, captioned

YAML = (".yaml", ".yml")
# Where captions stand for the word that a LoRA is called by.
TRIGGER = "[trigger]"


def ai_toolkit(source: Path, options: Options) -> Iterator[Found | Problem | Unused]:
    """Read a folder, each file with a .txt of the same name, or a .yaml that names such folders."""
    if source.is_dir():
        yield from captioned(source, ".txt", "")
        return
    if source.suffix.lower() not in YAML:
        raise DataError(
            f"{source} is neither a folder nor a .yaml; wanted the folder_path of an ai-toolkit "
            "data set, or its training's .yaml"
        )
    tables = list(_datasets(source))
    for number, (table, trigger) in enumerate(tables, 1):
        # Several data sets may hold files of the same name.
        prefix = f"{number}/" if len(tables) > 1 else ""
        yield from _set(source, table, f"{source.name} datasets {number}", prefix, trigger)


def _datasets(source: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Read every data set of a training, with its trigger word."""
    import yaml

    try:
        training = yaml.safe_load(source.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{source} is not valid YAML: {error}") from None
    found = False
    for process in _tables(_get(_get(training, "config"), "process")):
        for table in _tables(process.get("datasets")):
            found = True
            yield table, str(table.get("trigger_word") or process.get("trigger_word") or "")
    if not found:
        raise DataError(f"{source} has no config.process[].datasets; wanted an ai-toolkit training")


def _set(
    source: Path, table: dict[str, Any], where: str, prefix: str, trigger: str
) -> Iterator[Found | Problem | Unused]:
    if control := next((k for k in table if k.startswith("control_path") and table[k]), None):
        yield Problem(where, f"{control}: pairs, whose captions are instructions", "files alone")
        return
    name = table.get("folder_path") or table.get("dataset_path")
    folder = source.parent / Path(name).expanduser() if isinstance(name, str) else None
    if folder is None or not folder.is_dir():
        yield Problem(where, f"folder_path {name!r}", "a folder that exists")
        return
    repeats = {"repeats": n} if (n := table.get("num_repeats", 1)) != 1 else {}
    usual = str(table["default_caption"]) if table.get("default_caption") else None
    extension = str(table.get("caption_ext") or ".txt")
    for found in captioned(folder, extension, prefix, usual):
        if isinstance(found, Found):
            caption = found.fields["src_caption"].replace(TRIGGER, trigger)
            found.fields.update(src_caption=" ".join(caption.split()), **repeats)
        yield found


def _get(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, dict) else None


def _tables(found: Any) -> list[dict[str, Any]]:
    return [table for table in found or [] if isinstance(table, dict)]
