"""Exact resume: LoRA, EMA, optimiser, counters and random states, as safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .files import atomic

# Named tensors, and plain values that JSON can hold.
State = tuple[dict[str, Tensor], dict[str, Any]]


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """An optimiser's state flattened into `<parameter>.<key>` tensors and values."""
    tensors, values = {}, {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{key}"] = value
    return tensors, values


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: State) -> None:
    """The inverse of `optimizer_state`; parameter groups (rates) stay as they are."""
    state: dict[int, dict[str, Any]] = {}
    for part in saved:
        for name, value in part.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def random_state(generator: torch.Generator) -> dict[str, Tensor]:
    """The run's generator and torch's own ones."""
    states = {"run": generator.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def load_random_state(generator: torch.Generator, states: dict[str, Tensor]) -> None:
    """The inverse of `random_state`."""
    generator.set_state(states["run"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def save_checkpoint(folder: Path, parts: dict[str, dict[str, Tensor]], state: dict) -> None:
    """Write `<part>.safetensors` per part and `state.json`; the folder appears whole or not."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        for name, tensors in parts.items():
            contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            # Not save_file: it hides a full disk behind an error of its own.
            (temporary / f"{name}.safetensors").write_bytes(save(contiguous))
        (temporary / "state.json").write_text(json.dumps(state, indent=1))


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """What `save_checkpoint` wrote."""
    parts = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            parts[path.stem] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return parts, json.loads((folder / "state.json").read_text())


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p.parent for p in folder.glob("step-*/state.json"))


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
