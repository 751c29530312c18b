"""How many threads a process takes, and that those which wait sleep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from byg_train import machine

ROOT = Path(__file__).parents[1]


def settled(**environment: str) -> dict[str, str | None]:
    """Settings of threads in a fresh process, before torch would be loaded."""
    names = ("OMP_NUM_THREADS", *machine.WAITING)
    code = (
        "import os, json; from byg_train.machine import settle_threads; settle_threads();"
        f"print(json.dumps({{name: os.environ.get(name) for name in {names}}}))"
    )
    plain = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=ROOT, env={**plain, **environment}, capture_output=True, check=True
    )
    return json.loads(run.stdout)


def test_waiting_threads_sleep_soon() -> None:
    assert settled()["GOMP_SPINCOUNT"] == machine.SPINS


@pytest.mark.parametrize("name", machine.WAITING)
def test_what_the_user_says_of_waiting_stays(name: str) -> None:
    told = settled(**{name: "1000"})
    assert {told[other] for other in machine.WAITING if other != name} == {None}
    assert told[name] == "1000"


def test_a_loaded_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.WAITING:
        monkeypatch.delenv(name, raising=False)
    machine.settle_threads()
    assert not any(name in os.environ for name in machine.WAITING)


def test_the_command_line_settles_threads_before_torch() -> None:
    code = (
        "import os, sys; sys.argv = ['byg_train', 'presets']; import byg_train.cli.app as app;"
        "app.app = lambda **_: print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT']);"
        "app.main()"
    )
    plain = {name: v for name, v in os.environ.items() if name not in machine.WAITING}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", machine.SPINS]


def test_the_allocator_is_told_before_torch_is_loaded() -> None:
    """And never where the user has said something, or torch is there already."""
    code = (
        "import os, sys; from byg_train.machine import ALLOCATOR, settle_allocator;"
        "settle_allocator(); print(*[os.environ.get(name) for name in ALLOCATOR])"
    )
    plain = {name: v for name, v in os.environ.items() if not name.endswith("ALLOC_CONF")}

    def told(first: str = "", **own: str) -> list[str]:
        command = [sys.executable, "-c", first + code]
        run = subprocess.run(
            command, cwd=ROOT, env=plain | own, capture_output=True, text=True, check=True
        )
        return run.stdout.split()

    wanted = {"None", "expandable_segments:True"} if sys.platform == "linux" else {"None"}
    assert set(told()) == wanted
    assert told(PYTORCH_CUDA_ALLOC_CONF="mine") == ["None", "mine"]
    assert told("import sys; sys.modules['torch'] = None;") == ["None", "None"]


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another folder for /sys/fs/cgroup, and a process in the group /a/b."""
    proc = tmp_path / "proc"
    proc.write_text("12:cpu,cpuacct:/x\n0::/a/b\n")
    real = machine.Path
    monkeypatch.setattr(
        machine, "Path", lambda path: proc if path == "/proc/self/cgroup" else real(path)
    )
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "allowed_cpus", lambda: 16)
    (tmp_path / "cgroup" / "a" / "b").mkdir(parents=True)
    return tmp_path / "cgroup"


@pytest.mark.parametrize(
    ("files", "quota", "cpus"),
    [
        ({}, None, 16),
        ({"a/b/cpu.max": "max 100000"}, None, 16),
        ({"a/b/cpu.max": "150000 100000"}, 1.5, 2),
        ({"a/b/cpu.max": "max 100000", "cpu.max": "400000 100000"}, 4.0, 4),
        ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, 2.0, 2),
        ({"cpu.max": "20000 100000"}, 0.2, 1),
        ({"cpu.max": "3200000 100000"}, 32.0, 16),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, 16),
    ],
)
def test_a_container_is_asked_for_its_share_of_time(
    cgroups: Path, files: dict[str, str], quota: float | None, cpus: int
) -> None:
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(f"{text}\n")
    assert machine.cpu_quota() == quota
    assert machine.usable_cpus() == cpus


@pytest.mark.parametrize(("given", "wanted"), [(None, "2"), ("7", "7")])
def test_a_container_gets_as_many_threads_as_its_share(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: str
) -> None:
    (cgroups / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setattr(machine.sys, "modules", {})
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    machine.settle_threads()
    assert os.environ["OMP_NUM_THREADS"] == wanted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
@pytest.mark.slow
def test_a_process_bound_to_one_cpu_uses_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from byg_train import machine; machine.settle_threads();"
        "import torch; print(machine.usable_cpus(), torch.get_num_threads())"
    )
    plain = {n: v for n, v in os.environ.items() if n not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "1"]
