"""What a run was begun with: the content of its base, data and warm-up, so that these may move."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, TrainConfig
from ..data import counted
from ..family import family_of, is_embedded
from ..files import write_text
from ..models.locate import content, file_hash
from ..models.lora_file import expert_paths
from .checkpoint import checkpoints, read_about
from .cost import trained_experts

if TYPE_CHECKING:
    from ..data.items import Dataset

FILE = "origin.json"
# Settings that name what is recorded.
NAMES = {
    "model": {"model.path", "model.components", "model.revision"},
    "data": {"data.path", "data.styles"},
    "warmup": {"warmup.lora"},
}
# What is written of each: a name inside of it -> a hash.
Contents = dict[str, str]


def write_origin(run: Path, config: TrainConfig, data: Dataset) -> None:
    """Record what the run trains on."""
    write_text(run / FILE, json.dumps(_found(config, data), ensure_ascii=False))


def unmoved(run: Path, config: TrainConfig, data: Dataset) -> set[str]:
    """Settings that may name another place, since the same is there; ConfigError if it is not.

    Of a run without a record the data alone are known, by the fingerprint in its checkpoint.
    """
    recorded, now = _recorded(run), _found(config, data)
    same: set[str] = set()
    for part, names in NAMES.items():
        if not recorded.get(part) or not now[part]:
            continue
        if other := _differences(recorded[part], now[part]):
            places = {"data": config.data.path, "warmup": config.warmup.lora}
            place = places.get(part, config.model.path)
            raise ConfigError(
                f"{place} is not what {run} was begun with ({other}): restore it, or start in a "
                "new folder"
            )
        same |= names
    saved = checkpoints(run / "checkpoints")
    if saved and read_about(saved[-1]).get("data") == data.fingerprint:
        same |= NAMES["data"]
    return same


def _recorded(run: Path) -> dict[str, Contents]:
    try:
        return json.loads((run / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _found(config: TrainConfig, data: Dataset) -> dict[str, Contents]:
    return {
        "model": content(config.model),
        "data": _items(config, data),
        "warmup": _warmup(config),
    }


def _warmup(config: TrainConfig) -> Contents:
    """Expert -> a hash of the file that its LoRA starts from; nothing where one is missing."""
    if config.warmup.lora is None:
        return {}
    files = warmup_files(config, trained_experts(config))
    if not all(path.is_file() for path in files.values()):
        return {}
    return {f"the LoRA of {expert}": file_hash(path) for expert, path in files.items()}


def _items(config: TrainConfig, data: Dataset) -> Contents:
    """File name -> a hash of its bytes and of all that is told about it."""
    told: defaultdict[str, set[str]] = defaultdict(set)
    root = Path(config.data.path)
    for item in [*data.train, *data.test]:
        name = item.path.relative_to(root).as_posix()
        target = item.target and item.target.digest
        facts = [item.digest, *item.texts, item.edit_type, item.split, target, *item.segment.key]
        told[name].add(json.dumps(facts))
    return {
        name: hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]
        for name, lines in sorted(told.items())
    }


def _differences(before: Contents, now: Contents) -> str:
    """`2 files gone, such as a.png`, or nothing."""
    kinds = {
        "gone": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "changed": {n for n in before.keys() & now.keys() if before[n] != now[n]},
    }
    return "; ".join(
        f"{counted(len(names), 'file')} {kind}, such as {min(names)}"
        for kind, names in kinds.items()
        if names
    )


def warmup_files(config: TrainConfig, experts: Collection[str]) -> dict[str, Path]:
    """Expert -> the file that its LoRA starts from; nothing for a start from zeros.

    Of a pair, `warmup.lora` may be either file, or their name without `_high_noise`, `_low_noise`.
    """
    name = config.warmup.lora
    if name is None:
        return {}
    base = family_of(config.model.family).embedded
    path = base.warmup if base and is_embedded(name) else Path(name).expanduser()
    return expert_paths(path, experts)
