"""What a run was begun with: the content of its base and data, so that folders may move."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, TrainConfig
from ..data import counted
from ..files import atomic
from ..models.locate import content
from .checkpoint import checkpoints, read_about

if TYPE_CHECKING:
    from ..data.items import Dataset

FILE = "origin.json"
# Settings that name what `model` and `data` hold.
NAMES = {
    "model": {"model.path", "model.components", "model.revision"},
    "data": {"data.path", "data.styles"},
}
# What is written of each: a name inside of it -> a hash.
Contents = dict[str, str]


def write_origin(run: Path, config: TrainConfig, data: Dataset) -> None:
    """Record what the run trains on."""
    recorded = {"model": content(config.model), "data": _items(config, data)}
    with atomic(run / FILE) as temporary:
        temporary.write_text(json.dumps(recorded, ensure_ascii=False), encoding="utf-8")


def unmoved(run: Path, config: TrainConfig, data: Dataset) -> set[str]:
    """Settings that may name another place, since the same is there; ConfigError if it is not.

    Of a run without a record the data alone are known, by the fingerprint in its checkpoint.
    """
    recorded = _recorded(run)
    now = {"model": content(config.model), "data": _items(config, data)}
    same: set[str] = set()
    for part, names in NAMES.items():
        if not recorded.get(part) or not now[part]:
            continue
        if other := _differences(recorded[part], now[part]):
            place = config.data.path if part == "data" else config.model.path
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
