"""From flags to one validated configuration: preset < --config < flags < --set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import (
    PRESETS,
    ConfigError,
    TrainConfig,
    build_config,
    load_preset,
    merged,
    parse_set,
    read_settings,
)


@dataclass(frozen=True)
class Flags:
    """The command line's settings; None where a flag was not given."""

    preset: str | None = None
    config: Path | None = None
    data: Path | None = None
    model: str | None = None
    steps: int | None = None
    seed: int | None = None
    assignments: list[str] = field(default_factory=list)


def settings(flags: Flags) -> TrainConfig:
    """Merge and validate. A --config file without --preset builds on the preset that it names."""
    if not flags.preset and not flags.config:
        raise ConfigError(f"--preset or --config is missing (presets: {', '.join(PRESETS)})")
    file = read_settings(flags.config) if flags.config else {}
    preset = flags.preset or file.get("preset", "custom")
    tables = merged({} if preset == "custom" else load_preset(preset), {**file, "preset": preset})
    for over in (_flag_tables(flags), *map(parse_set, flags.assignments)):
        tables = merged(tables, over)
    return build_config(tables)


def _flag_tables(flags: Flags) -> dict[str, Any]:
    given = {
        ("model", "path"): flags.model,
        ("data", "path"): flags.data,
        ("train", "steps"): flags.steps,
    }
    tables: dict[str, Any] = {} if flags.seed is None else {"seed": flags.seed}
    for (section, key), value in given.items():
        if value is not None:
            tables.setdefault(section, {})[key] = value
    return tables


def resolve_device(device: str) -> str:
    """`auto` -> cuda where there is one, else cpu."""
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {device}: wanted cpu, cuda or auto")
    import torch

    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device; try --device cpu")
    if device != "auto":
        return device
    return "cuda" if cuda else "cpu"
