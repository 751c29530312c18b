"""Trainings that are stopped: exact resume, what stays, what is said, what a kill leaves."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import signals
import torch
from runs import metrics, stop_after, timeless
from safetensors.torch import load_file
from states import same
from tiny_run import SMALL, settings
from tiny_run import run as train_whole
from torch import Tensor

from byg_train.config import merged
from byg_train.core.roles import Roles, Velocity
from byg_train.data.cache import Cache, Turn
from byg_train.editing.editor import Editor
from byg_train.models.lora import LoraBank
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import Trainer
from byg_train.training.validation import ValidationReport, Validator


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tiny_base, tiny_data)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = train_whole(config, tmp_path / "whole" / "run").parent
    stop_after(monkeypatch, 1, 4)  # once in the warm-up, once in the method
    parts = tmp_path / "parts" / "run"
    for resume in (False, True):
        with pytest.raises(Interrupted, match="stopped at step"):
            train_whole(config, parts, resume=resume)
    train_whole(config, parts, resume=True)

    newest = [checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert same(*map(load_checkpoint, newest))
    a, b = (load_file(run / "run.safetensors") for run in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert timeless(whole) == timeless(parts)
    assert [m["step"] for m in metrics(whole) if m["kind"] in ("warmup", "full", "identity")] == [
        1, 2, 3, 4, 5, 6]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_while_encoding_loses_nothing(
    number: signal.Signals,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(tiny_base, tiny_data, {"data": {"cache": tmp_path / "cache"}})
    monkeypatch.setattr("byg_train.data.cache.AT_ONCE", 2)
    real, encoded = Cache._encode_pixels, []

    def encode(self: Cache, turn: Turn) -> None:
        if len(encoded) == 1:
            signals.send(number)
        encoded.append(len(turn.items))
        real(self, turn)

    monkeypatch.setattr(Cache, "_encode_pixels", encode)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="nothing is lost.*the same command again") as stop:
        train_whole(config, tmp_path / "run")
    assert stop.value.code == 128 + number
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    entries = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    assert encoded == [2] and entries
    monkeypatch.undo()
    assert train_whole(config, tmp_path / "run").is_file()
    assert all(path.stat().st_mtime_ns == written for path, written in entries.items())


@pytest.mark.slow
def test_being_stopped_names_the_files_there_are(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.optimizer_step

    def stopped(self: Trainer) -> dict:
        record = real(self)
        if self.state.step in (1, 5):  # in the warm-up of 2, and between checkpoints
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", stopped)
    config, run = settings(tiny_base, tiny_data), tmp_path / "run"
    with pytest.raises(Interrupted) as warmup:
        train_whole(config, run)
    assert "LoRA" not in str(warmup.value)
    assert str(run / "samples" / "step-000000.png") in str(warmup.value)
    with pytest.raises(Interrupted) as stop:
        train_whole(config, run, resume=True)
    files = run / "run-000005.safetensors", run / "samples" / "step-000004.png"
    for path in (*files, run / "checkpoints" / "step-000005"):
        assert path.exists()
        assert f"{path}" in str(stop.value)


@pytest.mark.slow
def test_being_stopped_in_the_last_validation_leaves_the_lora(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.validate

    def validate(self: Trainer) -> None:
        if self.state.step == 6:
            signals.send(signal.SIGINT)
        real(self)

    monkeypatch.setattr(Trainer, "validate", validate)
    config, run = settings(tiny_base, tiny_data), tmp_path / "run"
    with pytest.raises(Interrupted, match="complete, but for its last samples") as stop:
        train_whole(config, run)
    assert str(run / "run.safetensors") in str(stop.value)
    assert (run / "run.safetensors").is_file()


@pytest.mark.slow
def test_what_a_kill_left_half_written_is_removed_at_the_next_start(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed = [run / "run.safetensors", run / "samples" / "step-000000.png"]
    folder, outside = run / "checkpoints" / "step-000002", tmp_path / "run.safetensors"
    code = (
        "import os, sys; from pathlib import Path; from byg_train.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as t:\n"
        "    (t.mkdir() or t / 'a' if sys.argv[2] else t).write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    for path, inside in [(folder, "in"), *((p, "") for p in (*killed, outside))]:
        subprocess.run([sys.executable, "-c", code, str(path), inside], check=False)
    kept = [run / ".notes.tmp", run / "a.1.tmp", run / "data" / ".x.1.tmp", run / ".hidden"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
    left = sorted(p for p in tmp_path.rglob(".*.tmp*") if p not in kept)
    assert len(left) == 4
    train_whole(settings(tiny_base, tiny_data, {"train": {"steps": 1}}), run)
    assert [p for p in left if p.exists()] == [p for p in left if p.parent == tmp_path]
    assert all(path.exists() for path in kept)


@pytest.mark.slow
def test_the_curve_goes_on_with_an_interrupted_seed(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "curve.py"
    spec = importlib.util.spec_from_file_location("curve", path)
    curve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curve)
    real, taken = Trainer.optimizer_step, []

    def stopped(self: Trainer) -> dict:
        taken.append(self.state.step)
        record = real(self)
        if len(taken) == 4:
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", stopped)
    config, run = settings(tiny_base, tiny_data), tmp_path / "seed0"
    with pytest.raises(Interrupted):
        curve.train_whole(config, run)
    for _ in range(2):
        files = [path.name for path in curve.train_whole(config, run)]
        assert files == ["seed0-000004.safetensors", "seed0.safetensors"]
        assert taken == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM to a child: it kills")
def test_sigterm_saves_and_says_how_to_resume(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "byg_train", "--preset", "demo", "--data", str(tiny_data),
        "--output", str(tmp_path / "run"), "--device", "cpu", "--steps", "100000",
    ]  # fmt: skip
    over = merged(SMALL, {"model": {"path": str(tiny_base)}, "warmup": {"lora": "none"}})
    sets = [f"{s}.{k}={v}" for s, keys in over.items() for k, v in keys.items()]
    for assignment in sets:
        if not assignment.startswith("train.steps"):
            command += ["--set", assignment.replace("True", "true").replace("False", "false")]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and '"full"' in metrics.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert "--resume" in errors
    assert checkpoints(tmp_path / "run" / "checkpoints")


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 9, 26])
def test_a_stop_inside_a_step_is_heard_at_the_next_forward_and_loses_nothing(
    at: int, tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the warm-up, in a rollout, in a gradient pass: the step is undone and taken again."""
    config = settings(tiny_base, tiny_data, {"train": {"sample_every": 0}})
    whole = train_whole(config, tmp_path / "whole" / "run").parent
    real, asked = LoraBank.roles, []

    def counted(velocity: Velocity) -> Velocity:
        def answer(*given: object) -> Tensor:
            asked.append(1)
            if len(asked) == at:
                signals.send(signal.SIGTERM)
            return velocity(*given)

        return answer

    monkeypatch.setattr(
        LoraBank, "roles", lambda *given, **named: Roles(*map(counted, real(*given, **named)))
    )
    parts = tmp_path / "parts" / "run"
    with pytest.raises(Interrupted, match="stopped at step") as stop:
        train_whole(config, parts)
    assert len(asked) == at
    taken = [m for m in metrics(parts) if m["kind"] in ("warmup", "full", "identity")]
    assert f"stopped at step {len(taken)};" in str(stop.value)
    train_whole(config, parts, resume=True)
    newest = [checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert same(*map(load_checkpoint, newest))
    assert timeless(whole) == timeless(parts)


@pytest.mark.slow
def test_a_stop_is_heard_while_it_is_measured_what_the_warm_up_has_learned(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tiny_base, tiny_data, {"train": {"sample_every": 0, "sample_first": False}})
    whole = train_whole(config, tmp_path / "whole" / "run").parent
    asked: list[int] = []

    def counted(velocity: Velocity) -> Velocity:
        def answer(*given: object, **named: object) -> Tensor:
            asked.append(1)
            if len(asked) == 3:
                signals.send(signal.SIGTERM)
            return velocity(*given, **named)

        return answer

    monkeypatch.setattr(Editor, "in_turn", lambda self, velocity: counted(velocity))
    parts = tmp_path / "parts" / "run"
    with pytest.raises(Interrupted, match="stopped at step 2;"):
        train_whole(config, parts)
    assert len(asked) == 3
    train_whole(config, parts, resume=True)
    newest = [checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert same(*map(load_checkpoint, newest))


@pytest.mark.slow
def test_samples_that_a_stop_cut_short_are_drawn_on_resumption(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = settings(tiny_base, tiny_data, {"warmup": {"min_steps": 0}}), tmp_path / "run"
    real, drawn = Validator.validate, []

    def validate(self: Validator, each: Callable[[], None]) -> ValidationReport:
        drawn.append(1)
        if len(drawn) == 2:  # of step 2
            signals.send(signal.SIGTERM)
        return real(self, each)

    monkeypatch.setattr(Validator, "validate", validate)
    with pytest.raises(Interrupted, match="stopped at step 2"):
        train_whole(config, run)
    assert not (run / "samples" / "step-000002.png").exists()
    assert (run / "run-000002.safetensors").exists()
    train_whole(config, run, resume=True)
    assert (run / "samples" / "step-000002.png").exists()
    assert [m["step"] for m in metrics(run) if m["kind"] == "validation"] == [0, 2, 4]


@pytest.mark.slow
def test_checkpoints_come_by_time_and_samples_of_the_first_step_may_be_left_out(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"checkpoint_every": 100, "sample_every": 0, "sample_first": False}
    config = settings(tiny_base, tiny_data, {"train": {**train, "checkpoint_minutes": 2.5}})
    first = iter([0])  # every other step ends a minute later
    real = Trainer.optimizer_step

    def a_minute_later(self: Trainer) -> dict:
        self.saved -= next(first, 60)
        return real(self)

    monkeypatch.setattr(Trainer, "optimizer_step", a_minute_later)
    train_whole(config, tmp_path / "run")
    steps = [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")]
    assert steps == ["step-000004", "step-000006"]  # 3 min after the first; at the end
    assert [m["step"] for m in metrics(tmp_path / "run") if m["kind"] == "validation"] == [6]
