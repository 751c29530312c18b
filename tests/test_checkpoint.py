"""Whole checkpoints or none, optimiser states that come back exactly."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from states import same

from byg_train.config import ConfigError
from byg_train.files import atomic
from byg_train.training.checkpoint import (
    checkpoints,
    load_checkpoint,
    load_optimizer,
    prune,
    read_about,
    save_checkpoint,
)
from byg_train.training.state import State


def _stepped(steps: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for i in range(steps):
        optimizer.zero_grad()
        net(torch.full((1, 3), float(i + 1))).sum().backward()
        optimizer.step()
    return net, optimizer


def test_counters_of_an_older_version_are_read() -> None:
    state = State.of({"step": 7, "warmup": 2, "micro": 14, "identity": {"high": 0.5}})
    assert (state.step, state.main_step, state.identity) == (7, 5, {"high": 0.5})


def test_an_optimiser_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    net, optimizer = _stepped(3)
    state = {"optimizer": optimizer.state_dict()["state"], "net": net.state_dict()}
    save_checkpoint(tmp_path / "step-3", state, {})
    whole, _ = _stepped(5)

    net, optimizer = _stepped(0)
    state = load_checkpoint(tmp_path / "step-3")
    net.load_state_dict(state["net"])
    load_optimizer(optimizer, state["optimizer"])
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
    save_checkpoint(tmp_path / "step-3", optimizer.state_dict()["state"], {})
    twin, resumed = start()
    twin.load_state_dict(net.state_dict())
    load_optimizer(resumed, load_checkpoint(tmp_path / "step-3"))
    saved, loaded = (o.state_dict()["state"] for o in (optimizer, resumed))
    assert same(saved, loaded)
    go(net, optimizer, range(3, 6))
    go(twin, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_any_depth_of_state_comes_back(tmp_path: Path) -> None:
    """Keys that look like others, numbers of either kind, what is empty, and one shared table."""
    table = torch.linspace(-1, 1, 5)
    state = {
        0: {
            "step": 3,
            "a.b": torch.ones(2),
            "a": {"b": torch.zeros(2, dtype=torch.uint8), 1: {"deep": 0.1 + 0.2}, "1": True},
            "none": None,
            "empty": {},
            "table": table,
        },
        1: {"step": torch.tensor(2.0), "table": table},
    }
    save_checkpoint(tmp_path / "step-1", state, {"n": 1})
    loaded = load_checkpoint(tmp_path / "step-1")
    assert same(state, loaded)
    assert loaded[0]["table"].data_ptr() == loaded[1]["table"].data_ptr()
    assert read_about(tmp_path / "step-1") == {"n": 1}


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """What somebody put into the file in place of tensors is refused, not run."""
    save_checkpoint(tmp_path / "step-1", {"path": Path("x")}, {})
    with pytest.raises(ConfigError, match="state.pt is damaged"):
        load_checkpoint(tmp_path / "step-1")


def test_a_damaged_checkpoint_is_told_with_the_one_before_it(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save_checkpoint(tmp_path / f"step-{step}", {"x": torch.ones(3)}, {"n": step})
    with (tmp_path / "step-11" / "state.pt").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(ConfigError, match=r"move step-11 away; --resume goes on from step-10 then"):
        load_checkpoint(tmp_path / "step-11")
    for broken in ("", "{", "[1]", "{}"):
        (tmp_path / "step-9" / "state.json").write_text(broken)
        with pytest.raises(ConfigError, match=r"state.json is damaged.*start anew"):
            read_about(tmp_path / "step-9")


def test_copies_of_checkpoints_are_their_owners(tmp_path: Path) -> None:
    """In the order of their numbers, whatever their digits are; no other name is deleted."""
    for name in ("step-999000", "step-999500", "step-1000000", "step-999000-good", "step-x"):
        save_checkpoint(tmp_path / name, {"x": torch.ones(3)}, {"n": 1})
    numbers = [999000, 999500, 1000000]
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{n}" for n in numbers]
    prune(tmp_path, 1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"step-1000000", "step-999000-good", "step-x"}


def test_a_checkpoint_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    with pytest.raises(ConfigError, match="step-1 has no state.pt"):
        load_checkpoint(tmp_path / "step-1")


@pytest.mark.parametrize("after", [10, 5000])
def test_a_full_disk_leaves_the_previous_files_intact(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is full at the first byte or in the middle of a tensor."""
    state = {"x": torch.ones(5000)}
    save_checkpoint(tmp_path / "step-1", state, {"n": 1})
    real = Path.open

    class Full(io.RawIOBase):
        def __init__(self, file: io.BufferedIOBase) -> None:
            self.file, self.written = file, 0

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            self.written += len(data)
            if self.written > after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(real(path, mode)))
    with pytest.raises(OSError, match="No space") as caught:
        save_checkpoint(tmp_path / "step-2", state, {"n": 2})
    assert caught.value.errno == errno.ENOSPC
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


def test_a_full_disk_names_the_file_and_not_its_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for named in (None, lambda temporary: str(temporary), lambda temporary: f"file:{temporary}"):
        with pytest.raises(OSError, match="No space") as caught, atomic(path) as temporary:
            told = named and named(temporary)
            raise OSError(errno.ENOSPC, "No space left on device", told)
        assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space") as caught, atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device", "another")
    assert caught.value.filename == "another"


WRITES = """
import resource, sys
from pathlib import Path
import torch
from byg_train.training.checkpoint import save_checkpoint
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save_checkpoint(Path(sys.argv[1], "first"), {"a": torch.ones(9)}, {})  # loads what it needs
state = {str(i): torch.ones(1 << 23) for i in range(8)}
before = peak()
save_checkpoint(Path(sys.argv[1], "second"), state, {})
print((peak() - before) / sum(tensor.nbytes for tensor in state.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count peaks in other units")
def test_writing_takes_no_second_copy_in_memory(tmp_path: Path) -> None:
    """What is on a GPU is copied tensor by tensor; of 256 MiB on the CPU nothing is."""
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    share = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert share < 0.2
