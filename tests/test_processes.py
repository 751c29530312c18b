"""Several processes: they train as one does, stop together, and outlive nobody."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import runs
import tiny_run
import torch
import wan_run
from ranks import (
    accelerate,
    ended,
    gradients,
    launch,
    seconds_since_the_accident,
    started,
    torchrun,
)

from byg_train.config import TrainConfig, merged
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.run_folder import to_toml

QUICK = {
    "rollout": {"steps": 2},
    "warmup": {"min_steps": 1, "max_steps": 1},
    "train": {
        "steps": 2,
        "sample_every": 0,
        "sample_first": False,
        "weigh_losses": False,
        "check_gradients_every": 9,
    },
    "sample": {"steps": 1},
}
pytestmark = [pytest.mark.slow, pytest.mark.processes]


def flux(base: Path, pictures: Path, batch: int = 1, **over: dict) -> TrainConfig:
    cut = {"train": {"batch_size": batch, "global_batch": 4}}
    return tiny_run.settings(base, pictures, merged(merged(QUICK, cut), over))


def wan(clips: Path, **over: object) -> TrainConfig:
    return wan_run.settings(clips, merged(QUICK, over))


def assert_equal(run: Path, wanted: Path) -> None:
    """Gradients of every step, weights, EMA and moments to 1e-12, and what was logged."""
    found, all_of_it = gradients(run), gradients(wanted)
    assert len(found) == len(all_of_it) > 1
    for step, (ours, theirs) in enumerate(zip(found, all_of_it, strict=True)):
        for name, g in theirs.items():
            assert (g is None) == (ours[name] is None), (step, name)
            if g is not None:
                assert (ours[name] - g).norm() <= 1e-12 * g.norm(), (step, name)
    a, b = (load_checkpoint(checkpoints(r / "checkpoints")[-1]) for r in (run, wanted))
    assert a["lora"].keys() == b["lora"].keys()
    for name, weight in b["lora"].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(a["lora"][name], weight, rtol=1e-12, atol=1e-12)
    logged = [runs.timeless(r) for r in (run, wanted)]
    for ours, theirs in zip(*logged, strict=True):
        assert ours.pop("kind") == theirs.pop("kind")
        assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.fixture(scope="module")
def alone(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, micro-batch by micro-batch."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done = launch(0, flux(tiny_base, tiny_data), run, 8)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize(("processes", "batch"), [(0, 4), (2, 1), (4, 1), (2, 2)])
def test_any_number_of_processes_trains_as_one(
    processes: int, batch: int, alone: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    done = launch(processes, flux(tiny_base, tiny_data, batch), tmp_path / "run", 8)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "run", alone)


def test_two_experts_train_as_in_one_process(wan_clips: Path, tmp_path: Path) -> None:
    """Ranks have other experts at times, and in some steps one expert is nobody's."""
    config = wan(wan_clips, seed=1, train={"steps": 3, "global_batch": 2})
    for processes, name in ((0, "alone"), (2, "two")):
        done = launch(processes, config, tmp_path / name, 16)
        assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "two", tmp_path / "alone")
    whose = [
        {name.split(".")[0] for name, g in step.items() if g is not None}
        for step in gradients(tmp_path / "two")
    ]
    assert whose == [{"high"}, {"low"}, {"high", "low"}, {"high"}]


# Distribution matching alone: its critic would be another network in each process.
STUDENT = {
    "method": {"objective": "npedit", "critic_weight": 0.0, "aux_updates": 2, "ema_decay": None},
    "optimizer": {"skip_above": 300.0},
    "sample": {"sampler": "renoise", "steps": 4},
}


def test_a_student_and_its_auxiliary_train_as_in_one_process(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    for processes, batch in ((0, 4), (2, 1)):
        config = flux(tiny_base, tiny_data, batch, **STUDENT)
        done = launch(processes, config, tmp_path / str(processes), 8)
        assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "2", tmp_path / "0")


def test_a_student_of_two_experts_trains_as_in_one_process(wan_clips: Path, tmp_path: Path) -> None:
    """Its unroll asks the same experts in both, whatever expert an item's own time is for."""
    shift = {"sample": {**STUDENT["sample"], "shift": 12.0}}
    more = {"seed": 2, "train": {"steps": 4, "global_batch": 2}}
    config = wan(wan_clips, **merged(STUDENT, shift), **more)
    for processes, name in ((0, "alone"), (2, "two")):
        done = launch(processes, config, tmp_path / name, 16)
        assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "two", tmp_path / "alone")


@pytest.mark.parametrize("base", ["flux", "flux in 8 bits", "wan"])
def test_a_run_goes_on_in_other_numbers_of_processes(
    base: str, tiny_base: Path, tiny_data: Path, wan_clips: Path, tmp_path: Path
) -> None:
    """1, 2, 4, 1; a signal to the last of them stops all, first inside a step, which all repeat."""
    more = {"train": {"steps": 3}, "model": {"storage": "fp8" if "bits" in base else "bf16"}}
    config, multiple = flux(tiny_base, tiny_data, **more), 8
    if base == "wan":
        config, multiple = wan(wan_clips, seed=1, **more), 16
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = launch(0, config, whole, multiple)
    assert done.returncode == 0, done.stderr
    # Behind the warm-up's four forwards; then where a step ends.
    for step, (processes, where) in enumerate([(1, 7), (2, "update"), (4, "update")], start=1):
        stop = [[processes - 1, where]]
        stopped = launch(processes, config, run, multiple, stop=stop, resume=step > 1)
        assert f"stopped at step {step}; everything is saved" in stopped.stdout, stopped.stderr
        assert stopped.returncode != 0
    assert [folder.name for folder in checkpoints(run / "checkpoints")] == [
        "step-000001", "step-000002", "step-000003",
    ]  # fmt: skip
    done = launch(1, config, run, multiple, resume=True)
    assert done.returncode == 0, done.stderr
    assert_equal(run, whole)


def test_two_that_are_stopped_at_the_same_moment_stop_at_the_same_place(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    stops = [[0, 5], [1, 5]]
    done = launch(2, flux(tiny_base, tiny_data), tmp_path / "run", 8, stop=stops)
    assert done.stdout.count("stopped at step 1; everything is saved") == 1
    assert len(checkpoints(tmp_path / "run" / "checkpoints")) == 1


@pytest.mark.parametrize(
    ("accident", "who", "where", "words"),
    [
        # Its launcher stops the other: nothing to save, and at the start nobody listens yet.
        ("kill", 1, "start", "Signal 9 (SIGKILL)"),
        ("kill", 1, "encoding", "stopped before a step was taken; nothing is lost"),
        ("kill", 1, "samples", "the training is complete, but for its last samples"),
        ("kill", 1, 4, "error: process 1 of 2 gives no sign of life any more"),
        ("kill", 0, 4, "error: process 0 of 2 gives no sign of life any more"),
        ("fail", 1, "encoding", "error: process 1 of 2 has ended: no memory is left"),
        ("fail", 1, "samples", "error: process 1 of 2 has ended: no memory is left"),
        ("fail", 1, 4, "error: process 1 of 2 has ended: no memory is left"),
    ],
)
def test_a_process_that_ends_takes_the_others_along(
    accident: str, who: int, where: int | str, words: str,
    tiny_base: Path, tiny_data: Path, tmp_path: Path,
) -> None:  # fmt: skip
    config, run = flux(tiny_base, tiny_data, data={"cache": tmp_path / "cache"}), tmp_path / "run"
    done = launch(2, config, run, 8, **{accident: [[who, where]]})
    assert done.returncode != 0
    assert seconds_since_the_accident(run) < 60
    assert words in done.stdout + done.stderr
    assert ("the last checkpoint is whole" in done.stderr) == words.startswith("error")


def test_a_kill_while_the_main_process_saves_leaves_what_was_saved_before(
    alone: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config, run = flux(tiny_base, tiny_data, train={"checkpoint_every": 1}), tmp_path / "run"
    done = launch(2, config, run, 8, kill=[[0, "checkpoint"]])
    assert done.returncode != 0
    assert seconds_since_the_accident(run) < 60
    assert checkpoints(run / "checkpoints") == []
    again = launch(2, config, run, 8, resume=True)
    assert again.returncode == 0, again.stderr
    assert_equal(run, alone)


def test_nobody_waits_as_long_as_the_back_end_allows(
    alone: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Others take twice its time-out: one in each of what may take long."""
    over = {"data": {"cache": tmp_path / "cache"}, "train": {"checkpoint_every": 1}}
    places = [
        (1, "start"),
        (1, "encoding"),
        (1, "loading"),
        (1, 4),
        (0, "checkpoint"),
        (1, "samples"),
    ]
    done = launch(2, flux(tiny_base, tiny_data, **over), tmp_path / "run", 8, slow=places)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "run", alone)


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_command_line_trains_and_goes_on(
    launcher: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """As a user starts it: nothing of the package is imported when the processes meet."""
    words, run = typed(flux(tiny_base, tiny_data), tmp_path)
    launch_two = torchrun(2) if launcher == "torchrun" else accelerate(2, free_port())
    first = ended(started(launch_two, words))
    assert first.returncode == 0, first.stderr
    assert first.stdout.count(str(run / "run.safetensors")), first.stdout
    assert "Exception" not in first.stderr and "emulated" not in first.stderr
    again = ended(started(launch_two, [*words, "--resume", "--steps", 3]))
    assert again.returncode == 0, again.stderr
    kinds = [m["step"] for m in runs.metrics(run) if m["kind"] in ("full", "identity")]
    assert kinds == [2, 3, 4]


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_launchers_train_as_two_machines_would(
    launcher: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    port, (words, run) = free_port(), typed(flux(tiny_base, tiny_data), tmp_path)
    lines = {
        "torchrun": lambda node: torchrun(1, nodes=2, node=node, port=port),
        "accelerate": lambda node: accelerate(2, port, machines=2, machine=node),
    }
    both = [started(lines[launcher](node), words) for node in (0, 1)]
    for done in map(ended, both):
        # What a launcher logs of its own end is left out: the store goes with the first to leave.
        assert done.returncode == 0, done.stderr
    assert (run / "run.safetensors").is_file()
    assert [m["step"] for m in runs.metrics(run) if m["kind"] in ("full", "identity")] == [2, 3]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_machine_that_is_lost_ends_the_others(
    lost: int, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Launcher and process at once, so that no launcher tells of it."""
    config, port = flux(tiny_base, tiny_data, train={"steps": 10_000}), free_port()
    words, run = typed(config, tmp_path)
    both = [started(torchrun(1, nodes=2, node=node, port=port), words) for node in (0, 1)]
    deadline = time.monotonic() + 300
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < deadline and all(one.poll() is None for one in both)
        time.sleep(0.2)
    children = Path(f"/proc/{both[lost].pid}/task/{both[lost].pid}/children").read_text()
    for pid in (both[lost].pid, *map(int, children.split())):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    done = ended(both[1 - lost])
    assert time.monotonic() - began < 60
    assert done.returncode != 0
    assert f"error: process {lost} of 2" in done.stderr
    assert "the last checkpoint is whole" in done.stderr
    both[lost].communicate()


def typed(config: TrainConfig, folder: Path) -> tuple[list[object], Path]:
    """What is typed to train, and the folder of the run."""
    file, run = folder / "run.toml", folder / "run"
    file.write_text(to_toml(config))
    return ["-m", "byg_train", "--config", file, "--output", run, "--device", "cpu"], run


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
