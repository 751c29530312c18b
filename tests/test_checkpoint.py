"""Whole checkpoints or none, optimiser states that come back exactly."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from byg_train.checkpoint import (
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    optimizer_state,
    prune,
    save_checkpoint,
)
from byg_train.files import atomic


def _stepped(steps: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for i in range(steps):
        optimizer.zero_grad()
        net(torch.full((1, 3), float(i + 1))).sum().backward()
        optimizer.step()
    return net, optimizer


def test_an_optimiser_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    net, optimizer = _stepped(3)
    tensors, values = optimizer_state(optimizer)
    weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
    save_checkpoint(tmp_path / "step-3", {"optimizer": tensors, "net": weights}, {"v": values})
    whole, _ = _stepped(5)

    net, optimizer = _stepped(0)
    parts, state = load_checkpoint(tmp_path / "step-3")
    net.load_state_dict(parts["net"])
    load_optimizer_state(optimizer, (parts["optimizer"], state["v"]))
    for i in (3, 4):
        optimizer.zero_grad()
        net(torch.full((1, 3), float(i + 1))).sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))


def test_a_full_disk_leaves_the_previous_files_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "step-1", {"a": {"x": torch.ones(2)}}, {"n": 1})

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "step-2", {"a": {"x": torch.ones(2)}}, {"n": 2})
    assert [p.name for p in checkpoints(tmp_path)] == ["step-1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1"]


def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("new, but")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10, 20):
        save_checkpoint(tmp_path / f"step-{step:06d}", {"a": {}}, {"step": step})
    prune(tmp_path, 2)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000010", "step-000020"]
