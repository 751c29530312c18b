"""What a run brings to the disks, and whether there is room for it. Loads nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, ModelConfig, TrainConfig
from ..family import family_of, is_embedded
from ..models.locate import local_folder
from ..models.networks import network
from .cost import Disk, disk
from .words import size_words

if TYPE_CHECKING:
    from ..data.items import Item
    from .cost import Shapes


def disk_need(config: TrainConfig, s: Shapes, items: list[Item]) -> Disk:
    """What the run will bring: cache, run folder, and the base if it is not here yet."""
    seen = {(item.digest, item.segment) for item in items}
    texts = {text for item in items for text in item.texts} | {""}
    mean = [s.mean_image] * len(seen)
    need = disk(config, network(config.model), s.text, mean, len(texts))
    return need._replace(download=_download(config.model))


def _download(model: ModelConfig) -> float | None:
    """Bytes that the hub will send: 0 for a local base, None for an unknown one."""
    single = Path(model.path).expanduser().is_file()
    name = model.components if single else model.path
    if name is None or is_embedded(name) or Path(name).expanduser().exists():
        return 0
    if local_folder(model, name):
        return 0
    return family_of(model.family).bases.download_size(name, transformer=not single)


def disk_words(need: Disk) -> str:
    """Say how much is needed in all, and for what."""
    known = need.download or 0
    download = f", download of the base {size_words(known)}" if known else ""
    return (
        f"{size_words(need.cache + need.checkpoints + need.lora_files + known)}: cache "
        f"{size_words(need.cache)}, checkpoints {size_words(need.checkpoints)}, LoRA files "
        f"{size_words(need.lora_files)}{download}"
        + (" (and the download of the base, of unknown size)" if need.download is None else "")
    )


def check_disk(config: TrainConfig, need: Disk, output: Path) -> None:
    """Refuse before anything is loaded when a disk cannot hold what the run will write to it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = config.data.cache or Path(config.data.path) / ".byg_cache"
    # What an earlier run has written need not be written again.
    parts = [
        (cache, need.cache - _written(cache)),
        (output, need.checkpoints + need.lora_files - _written(output)),
        (Path(HF_HUB_CACHE), need.download or 0),
    ]
    wanted: Counter[int] = Counter()
    places: dict[int, Path] = {}
    for folder, count in parts:
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        device = place.stat().st_dev
        places.setdefault(device, place)
        wanted[device] += round(max(0.0, count))
    for device, place in places.items():
        free = shutil.disk_usage(place).free
        if wanted[device] > free:
            raise ConfigError(
                f"too little disk space at {place}: needed about {size_words(wanted[device])} "
                f"({disk_words(need)}), free {size_words(free)}; make room, choose another output "
                "folder or data.cache, or write less with a larger train.checkpoint_every"
            )


def _written(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
