"""Exact resume: LoRA, EMA, optimiser, counters and random states, as safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..files import atomic
from ..models.lora import LoraBank

# Named tensors, and plain values that JSON can hold.
State = tuple[dict[str, Tensor], dict[str, Any]]


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """An optimiser's state, flattened; a name is the JSON list of the keys that lead to its entry.

    AdamW has a dict of tensors and numbers for each parameter; 8-bit optimisers nest deeper.
    """
    tensors, values = {}, {}
    for path, value in _leaves(optimizer.state_dict()["state"], ()):
        (tensors if isinstance(value, Tensor) else values)[json.dumps(path)] = value
    return tensors, values


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: State) -> None:
    """The inverse of `optimizer_state`; parameter groups (rates) stay as they are."""
    state: dict[int, dict[str, Any]] = {}
    for part in saved:
        for name, value in part.items():
            *path, last = json.loads(name)
            inside: dict = state
            for key in path:
                inside = inside.setdefault(key, {})
            inside[last] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _leaves(value: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    """What is no dict, or an empty one, with the keys that lead there."""
    if not isinstance(value, dict) or (path and not value):
        yield path, value
        return
    for key, inside in value.items():
        yield from _leaves(inside, (*path, key))


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
            # Copies: the format knows no shared tensors, such as the tables of an 8-bit optimiser.
            own = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
            # Not save_file: it hides a full disk behind an error of its own.
            (temporary / f"{name}.safetensors").write_bytes(save(own))
        (temporary / "state.json").write_text(json.dumps(state, indent=1))


def read_state(folder: Path) -> dict[str, Any]:
    """The plain values of a checkpoint: counters and what else was told to `save_run`."""
    return json.loads((folder / "state.json").read_text())


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """What `save_checkpoint` wrote."""
    parts = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            parts[path.stem] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return parts, read_state(folder)


def save_run(
    folder: Path,
    bank: LoraBank,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    about: dict[str, Any],
) -> None:
    """All that an exact resume needs, and plain values about it."""
    tensors, values = optimizer_state(optimizer)
    lora, counts = bank.state_dict()
    parts = {"lora": lora, "optimizer": tensors, "random": random_state(generator)}
    save_checkpoint(folder, parts, {**about, "optimizer": values, "ema": counts})


def load_run(
    folder: Path, bank: LoraBank, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    """The inverse of `save_run`; the plain values are `read_state`'s."""
    parts, state = load_checkpoint(folder)
    bank.load_state_dict(parts["lora"], state["ema"])
    load_optimizer_state(optimizer, (parts["optimizer"], state["optimizer"]))
    load_random_state(generator, parts["random"])


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p.parent for p in folder.glob("step-*/state.json"))


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
