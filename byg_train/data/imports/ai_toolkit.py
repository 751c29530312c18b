"""Read ai-toolkit data sets: a folder with captions, or the .yaml of a training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...text_files import TextFileError, read_text
from .. import DataError, Problem
from ..rule_codes import NO_FILES, PAIRS
from ..unused import Unused
from .common import Found, Options, captioned, place, repeated

# Of a training by hand, and of the interface's job_config.json.
CONFIGS = (".yaml", ".yml", ".json")
FILES = "files alone"
# Where captions stand for the word that a LoRA is called by.
TRIGGER = "[trigger]"


def ai_toolkit(source: Path, options: Options) -> Iterator[Found | Problem | Unused]:
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
) -> Iterator[Found | Problem | Unused]:
    if control := next((k for k in table if k.startswith("control_path") and table[k]), None):
        yield Problem(
            where, f"{control}: pairs, whose captions are instructions", "files alone", PAIRS
        )
        return
    name = table.get("folder_path") or table.get("dataset_path")
    folder = place(name, source) if isinstance(name, str) else None
    if folder is None or not folder.is_dir():
        wanted = f"a folder that exists, beside {source.name} or in {Path.cwd()}"
        yield Problem(where, f"folder_path {name!r}", wanted, NO_FILES)
        return
    repeats = repeated(table, where)
    if isinstance(repeats, Problem):
        yield repeats
        return
    usual = str(table["default_caption"]) if table.get("default_caption") else None
    extension = str(table.get("caption_ext") or "")
    for found in captioned(folder, extension or None, prefix, usual):
        if isinstance(found, Found):
            caption = found.fields["src_caption"].replace(TRIGGER, trigger)
            found.fields.update(src_caption=" ".join(caption.split()), **repeats)
        yield found


def _get(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, dict) else None


def _tables(found: Any) -> list[dict[str, Any]]:
    return [table for table in found or [] if isinstance(table, dict)]
