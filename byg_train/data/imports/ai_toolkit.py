"""Read ai-toolkit data sets: a folder with captions, or the .yaml of a training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...text_files import TextFileError, read_text
from .. import DataError, Problem
from ..rule_codes import NO_FILES
from .common import Imported, Options, Read, captioned, place, repeated, unusable

# Of a training by hand, and of the interface's job_config.json.
CONFIGS = (".yaml", ".yml", ".json")
# Where captions stand for the word that a LoRA is called by.
TRIGGER = "[trigger]"


def ai_toolkit(source: Path, options: Options) -> Iterator[Read]:
    """Read a folder, each file with a caption beside it, or a configuration that names such."""
    if source.is_dir():
        yield from captioned(source, None, "")
        return
    if source.suffix.lower() not in CONFIGS:
        raise DataError(
            f"{source} is neither a folder nor a .yaml or .json; wanted the folder_path of an "
            "ai-toolkit data set, or its training's configuration"
        )
    tables = list(_datasets(source))
    for number, (table, trigger) in enumerate(tables, 1):
        # Several data sets may hold files of the same name.
        prefix = f"{number}/" if len(tables) > 1 else ""
        yield from _set(source, table, f"{source.name} datasets {number}", prefix, trigger)


def _datasets(source: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Read every data set of a training, with its trigger word."""
    training = _parsed(source)
    found = False
    for process in _tables(_get(_get(training, "config"), "process")):
        for table in _tables(process.get("datasets")):
            found = True
            yield table, str(table.get("trigger_word") or process.get("trigger_word") or "")
    if not found:
        raise DataError(f"{source} has no config.process[].datasets; wanted an ai-toolkit training")


def _parsed(source: Path) -> Any:
    import yaml

    read = json.loads if source.suffix.lower() == ".json" else yaml.safe_load
    try:
        return read(read_text(source))
    except TextFileError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        kind, told = source.suffix[1:].upper(), " ".join(str(error).split())
        raise DataError(f"{source} is not valid {kind}: {told}") from None


def _set(
    source: Path, table: dict[str, Any], where: str, prefix: str, trigger: str
) -> Iterator[Read]:
    if problem := unusable(table, where, "control_path"):
        yield problem
        return
    name = table.get("folder_path") or table.get("dataset_path")
    folder = place(name, source) if isinstance(name, str) else None
    if folder is None or not folder.is_dir():
        wanted = f"a folder that exists, beside {source.name} or in {Path.cwd()}"
        yield Problem(where, f"folder_path {name!r}", wanted, NO_FILES)
        return
    usual = str(table["default_caption"]) if table.get("default_caption") else None
    extension = str(table.get("caption_ext") or "")
    for item in captioned(folder, extension or None, prefix, usual):
        if isinstance(item, Imported):
            caption = item.fields["src_caption"].replace(TRIGGER, trigger)
            item.fields.update(src_caption=" ".join(caption.split()), **repeated(table))
        yield item


def _get(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, dict) else None


def _tables(found: Any) -> list[dict[str, Any]]:
    return [table for table in found or [] if isinstance(table, dict)]
