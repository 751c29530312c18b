"""The files that the LoRA of a run starts from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..config import TrainConfig
from ..family import family_of, is_embedded
from ..models.lora_file import expert_paths


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
