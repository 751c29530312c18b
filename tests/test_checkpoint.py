"""Whole checkpoints or none, optimiser states that come back exactly."""

from __future__ import annotations

import errno
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from byg_train.files import atomic
from byg_train.training.checkpoint import (
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    optimizer_state,
    prune,
    save_checkpoint,
)


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


class EightBit(torch.optim.Optimizer):
    """The state of bitsandbytes' AdamW8bit: bytes, a table for all parameters, block maxima.

    Its newer versions wrap what is quantised into one more dict; `wrapped` does so, and once again.
    """

    QUANTISED = ("state1", "qmap1", "absmax1")
    # One table, as there.
    TABLE = torch.linspace(-1, 1, 256)

    def __init__(self, parameters: list[torch.nn.Parameter], wrapped: bool) -> None:
        super().__init__(parameters, {"lr": 0.1})
        self.wrapped = wrapped

    @torch.no_grad()
    def step(self) -> None:
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            if not state:
                zero = torch.full(p.shape, 127, dtype=torch.uint8)
                state |= {"step": 0, "state1": zero, "qmap1": self.TABLE, "absmax1": torch.zeros(1)}
            mean = state["qmap1"][state["state1"].long()] * state["absmax1"]
            mean = 0.9 * mean + 0.1 * p.grad
            state["step"] += 1
            state["absmax1"] = mean.abs().max()[None]
            nearest = (self.TABLE - (mean / state["absmax1"])[..., None]).abs().argmin(-1)
            state["state1"] = nearest.to(torch.uint8)
            p -= 0.1 * mean

    def state_dict(self) -> dict:
        whole = super().state_dict()
        if self.wrapped:
            whole["state"] = {
                index: {"step": s["step"], "deep": {"er": {k: s[k] for k in self.QUANTISED}}}
                for index, s in whole["state"].items()
            }
        return whole

    def load_state_dict(self, saved: dict) -> None:
        """Types stay: the base class would turn bytes into floats."""
        saved = deepcopy(saved)
        parameters = self.param_groups[0]["params"]
        for index, state in saved["state"].items():
            inner = state.pop("deep")["er"] if self.wrapped else {}
            self.state[parameters[index]] = {**state, **inner}


def _same(a: object, b: object) -> bool:
    """Equal to the last bit, type and key, at every depth."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_eight_bit_optimiser_goes_on_exactly_where_it_was(wrapped: bool, tmp_path: Path) -> None:
    def start() -> tuple[torch.nn.Linear, EightBit]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        return net, EightBit(list(net.parameters()), wrapped)

    def go(net: torch.nn.Linear, optimizer: EightBit, steps: range) -> None:
        for i in steps:
            optimizer.zero_grad()
            net(torch.full((1, 3), float(i + 1))).square().sum().backward()
            optimizer.step()

    net, optimizer = start()
    go(net, optimizer, range(3))
    tensors, values = optimizer_state(optimizer)
    save_checkpoint(tmp_path / "step-3", {"optimizer": tensors}, {"v": values})
    parts, state = load_checkpoint(tmp_path / "step-3")
    twin, resumed = start()
    twin.load_state_dict(net.state_dict())
    load_optimizer_state(resumed, (parts["optimizer"], state["v"]))
    saved, loaded = (o.state_dict()["state"] for o in (optimizer, resumed))
    assert _same(saved, loaded)
    go(net, optimizer, range(3, 6))
    go(twin, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_any_depth_of_state_comes_back(tmp_path: Path) -> None:
    """Keys that look like others, numbers of either kind, and what is empty."""
    state = {
        0: {
            "step": 3,
            "a.b": torch.ones(2),
            "a": {"b": torch.zeros(2, dtype=torch.uint8), 1: {"deep": 0.1 + 0.2}, "1": True},
            "none": None,
            "empty": {},
        },
        1: {"step": torch.tensor(2.0)},
    }

    class Holder(EightBit):
        def state_dict(self) -> dict:
            return {"state": state, "param_groups": []}

        def load_state_dict(self, saved: dict) -> None:
            self.found = saved["state"]

    holder = Holder([torch.nn.Parameter(torch.ones(1))], wrapped=False)
    tensors, values = optimizer_state(holder)
    save_checkpoint(tmp_path / "step-1", {"optimizer": tensors}, {"v": values})
    parts, plain = load_checkpoint(tmp_path / "step-1")
    load_optimizer_state(holder, (parts["optimizer"], plain["v"]))
    assert _same(state, holder.found)


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
