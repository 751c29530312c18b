"""Exact resume: LoRA, EMA and optimiser in one file, counters as JSON beside it.

What is drawn follows from the counters (`draws`), and none of it from how many processes there are.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..config import ConfigError
from ..files import atomic
from ..models.lora import LoraBank

# Read with `weights_only`: tensors, numbers and names, and no code.
TENSORS, ABOUT = "state.pt", "state.json"
STEP = re.compile(r"step-(\d+)")


def save_checkpoint(folder: Path, state: dict[str, Any], about: dict[str, Any]) -> None:
    """Write tensors in dicts of any depth, and plain values; the folder appears whole or not.

    Tensors are written where they are, one after the other: the copy of one is the memory needed.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        try:
            with (temporary / TENSORS).open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:
            # torch hides a full disk behind an error of its own.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        (temporary / ABOUT).write_text(json.dumps(about, indent=1))


def read_about(folder: Path) -> dict[str, Any]:
    """The plain values of a checkpoint: counters and what else was told to `save_run`."""
    try:
        about = json.loads((folder / ABOUT).read_text())
    except ValueError:
        about = None
    if not about or not isinstance(about, dict):
        raise _damaged(folder, ABOUT)
    return about


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The tensors that `save_checkpoint` wrote, on the CPU."""
    if not (folder / TENSORS).exists():
        raise ConfigError(f"{folder} has no {TENSORS}: another version of byg_train wrote it")
    try:
        return torch.load(folder / TENSORS, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError):
        raise _damaged(folder, TENSORS) from None


def _damaged(folder: Path, name: str) -> ConfigError:
    number = STEP.fullmatch(folder.name)
    found = [p.name for p in checkpoints(folder.parent)] if number else []
    older = [name for name in found if int(STEP.fullmatch(name)[1]) < int(number[1])]
    way = f"--resume goes on from {older[-1]} then" if older else "start anew in another folder"
    return ConfigError(f"{folder / name} is damaged: move {folder.name} away; {way}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, Any]) -> None:
    """Take the moments of every parameter; parameter groups (rates) stay as they are."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def save_run(
    folder: Path,
    bank: LoraBank,
    optimizers: dict[str, torch.optim.Optimizer],
    about: dict[str, Any],
) -> None:
    """Save everything that an exact resume needs, and plain values about it."""
    lora, counts = bank.state_dict()
    moments = {name: optimizer.state_dict()["state"] for name, optimizer in optimizers.items()}
    state = {"lora": lora, **moments}
    save_checkpoint(folder, state, {**about, "ema": counts})


def load_run(folder: Path, bank: LoraBank, optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """The inverse of `save_run`; the plain values are `read_about`'s."""
    state = load_checkpoint(folder)
    bank.load_state_dict(state["lora"], read_about(folder)["ema"])
    for name, optimizer in optimizers.items():
        load_optimizer(optimizer, state[name])


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; a copy under another name is the user's own."""
    named = ((STEP.fullmatch(p.parent.name), p.parent) for p in folder.glob(f"step-*/{ABOUT}"))
    return [path for _, path in sorted((int(step[1]), path) for step, path in named if step)]


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
