"""Runs from the command line: the demo, a run, its resumption, and what interrupts it."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import signals
import torch
from cli_runs import SMALL, byg, refused, small
from typer.testing import Result

from byg_train.cli import clip_table
from byg_train.cli import train as train_module
from byg_train.config import TrainConfig
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.training import bench, run_folder, trainer
from byg_train.training.run_folder import read_config
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import TrainingError

# ---------------------------------------------------------------- the demo


def test_the_demo_draws_its_data_into_the_run(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second run finds what the first has drawn, and does not mistake it for a run."""
    from byg_train.world import demo

    prepare, seen = demo.Demo.prepare, []
    monkeypatch.setattr(demo.Demo, "prepare", lambda self, folder: prepare(self, folder, items=30))
    monkeypatch.setattr(train_module, "_train", lambda *args: seen.append(args))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        own = ["--model", tiny_base, "--set", "warmup.lora=null"]
        result = byg("--preset", "demo", *own, "--device", "cpu")
        assert result.exit_code == 0, result.output
    config, data, output, device, resume, world = seen[1]
    assert (output, device, resume) == (tmp_path / "runs" / "demo", "cpu", False)
    assert world
    assert config.data.path == output / "data"
    assert (output / "data" / "metadata.jsonl").is_file()
    assert len(data.train) >= 28 and len(data.test) == 3


@pytest.mark.usefixtures("nothing_loads")
def test_the_demo_draws_nothing_into_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    refused(byg("--preset", "demo", "--output", tmp_path), "holds no run")
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_bench_measures_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(bench, "run", lambda *args, **options: (*args, *options.values()))
    monkeypatch.setattr(bench, "show", seen.append)
    assert byg("bench", "--device", "cpu", "--batch", 3).exit_code == 0
    assert byg("bench", "--device", "cpu", "--profile", "fast", "--set", "a=1").exit_code == 0
    assert seen == [("cpu", 3, None, ()), ("cpu", 8, "fast", ["a=1"])]
    refused(byg("bench", "--device", "tpu"), "tpu")


# ---------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_run_and_its_resumption(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "mine"

    def go(*more: object) -> Result:
        return byg(*small(tiny_base, tiny_data, output, *more))

    result = go("--steps", 2)
    assert result.exit_code == 0, result.output
    assert (output / "mine.safetensors").is_file()
    assert f"The LoRA is {output / 'mine.safetensors'}" in result.stdout
    assert f"is in {output / 'samples' / 'step-000003.png'}" in result.stdout
    assert (output / "samples" / "step-000003.png").is_file()
    assert "Loading weights" not in result.output
    config = read_config(output)
    assert isinstance(config, TrainConfig)
    assert (config.train.steps, config.lora.rank) == (2, 2)

    before = (output / "mine.safetensors").read_bytes()
    refused(go("--steps", 2), "already holds a run", "--resume")
    refused(go("--steps", 3, "--resume", "--set", "lora.rank=3"), "lora.rank: 2 in the run, 3 now")
    pairs = ("--set", "method.objective=npedit", "--set", "critic.path=world")
    refused(go("--steps", 3, "--resume", *pairs), "method.objective: 'byg' in the run")
    assert (output / "mine.safetensors").read_bytes() == before
    assert read_config(output) == config

    weights = ("--set", "method.lambda_prior=0.25", "--set", "train.weigh_losses=true")
    result = go("--steps", 3, "--resume", *weights)
    assert result.exit_code == 0, result.output
    assert "weighing the losses" in result.output  # they are not those of the run so far
    assert read_config(output).train.steps == 3
    assert "method.lambda_prior: 1.0 until now, 0.25 from here" in caplog.text
    assert "weighing the losses" not in go("--steps", 3, "--resume", *weights).output
    refused(go("--steps", 2, "--resume"), "has taken 3 steps, and 2 are asked for")
    assert read_config(output).train.steps == 3
    steps = [json.loads(x) for x in (output / "metrics.jsonl").read_text().splitlines()]
    taken = [r["step"] for r in steps if r["kind"] in ("warmup", "full", "identity")]
    assert taken == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Interrupted("saved; --resume goes on", 130), 130, ["saved; --resume goes on"]),
        (TrainingError("the loss became nan"), 1, ["error: the loss became nan"]),
        (torch.OutOfMemoryError("CUDA ..."), 1, ["memory is full", "train.batch_size"]),
        (PermissionError(errno.EACCES, "Permission denied", "a.file"), 2, ["a.file: Permission"]),
        (OSError(errno.ENOSPC, "No space", "some.file"), 2, ["disk is full", "--resume"]),
    ],
)
def test_a_run_that_ends_early_says_why(
    error: Exception,
    code: int,
    words: list[str],
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train", end)
    result = byg(*small(tiny_base, tiny_data, tmp_path / "run"))
    assert result.exit_code == code
    for word in words:
        assert word in result.stderr


def test_the_tiny_worlds_report_is_for_its_own_data(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for other data under the demo's preset."""
    from byg_train.world import demo, report

    prepare, reported = demo.Demo.prepare, []
    monkeypatch.setattr(demo.Demo, "prepare", lambda self, folder: prepare(self, folder, items=30))
    monkeypatch.setattr(report, "report", lambda run, _, device: reported.append((run, device)))

    def fake(config: TrainConfig, data: object, output: Path, **_: object) -> list[Path]:
        (output / "samples").mkdir()
        (output / "samples" / "step-000001.png").touch()
        return [output / "x.safetensors"]

    monkeypatch.setattr(trainer, "train", fake)
    command = ["--preset", "demo", "--model", tiny_base, "--set", "warmup.lora=null"]
    command += ["--device", "cpu", "--output"]
    own = ["--data", tiny_data, "--set", "data.resolution=16"]
    assert byg(*command, tmp_path / "own", *own).exit_code == 0
    assert reported == []
    assert byg(*command, tmp_path / "world").exit_code == 0
    assert reported == [(tmp_path / "world", "cpu")]


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (clip_table, "load_shown"),
        (run_folder, "write_config"),
        (FluxBackbone, "encode_text"),
        (FluxBackbone, "encode_pixels"),
    ],
)
def test_being_stopped_before_the_first_step_loses_nothing(
    where: object,
    name: str,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it was busy with; the same command again, without --resume, does all of it."""
    command = small(tiny_base, tiny_data, tmp_path / "run", "--steps", 1)
    command += ["--set", f"data.cache={tmp_path / 'cache'}"]

    def stop(*_: object, **__: object) -> None:
        signals.send(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setattr(where, name, stop)
    result = byg(*command)
    assert result.exit_code == 143, result.output
    assert "nothing is lost" in result.stderr and "same command again" in result.stderr
    monkeypatch.undo()
    result = byg(*command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "run.safetensors").is_file()


def test_being_stopped_while_measuring_says_that_training_is_done(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byg_train.world import demo, report

    prepare = demo.Demo.prepare
    monkeypatch.setattr(demo.Demo, "prepare", lambda self, folder: prepare(self, folder, items=30))
    monkeypatch.setattr(report, "report", lambda *_: signals.send(signal.SIGINT))
    where = ["--model", tiny_base, "--output", tmp_path / "mine", "--device", "cpu"]
    sets = [part for a in (*SMALL, "warmup.lora=null") for part in ("--set", a)]
    result = byg("--preset", "demo", "--steps", 1, *where, *sets)
    assert result.exit_code == 130, result.output
    assert "complete, but not measured" in result.stderr
    assert str(tmp_path / "mine" / "mine.safetensors") in result.stderr


@pytest.mark.slow
def test_libraries_keep_quiet_about_what_nobody_can_act_on() -> None:
    """In a process of its own: transformers would praise torchvision, torch warn of a kernel."""
    code = """if True:
        import sys, warnings
        from byg_train.cli import app
        sys.argv = ["byg_train", "presets"]
        try:
            app.main()
        except SystemExit:
            pass
        import torch
        from transformers import CLIPImageProcessor
        x, weight = torch.ones(2, 4, dtype=torch.bfloat16), torch.ones(4)
        torch.nn.functional.rms_norm(x, (4,), weight)
        warnings.warn("something else")
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in run.stderr.splitlines() if "Warning" in line or "[" in line]
    assert len(lines) == 1 and "something else" in lines[0], run.stderr


def test_a_failed_start_may_be_repeated(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other settings, without --resume, and without what the first try measured."""
    output = tmp_path / "run"

    def end(*_: object, **__: object) -> None:
        (output / "metrics.jsonl").write_text('{"step": 0, "kind": "validation"}\n')
        raise TrainingError("too soon")

    monkeypatch.setattr(trainer, "train", end)
    assert byg(*small(tiny_base, tiny_data, output, "--steps", 1)).exit_code == 1
    monkeypatch.undo()
    again = byg(*small(tiny_base, tiny_data, output, "--steps", 1, "--set", "lora.rank=3"))
    assert again.exit_code == 0, again.output
    assert read_config(output).lora.rank == 3
    kinds = [json.loads(x) for x in (output / "metrics.jsonl").read_text().splitlines()]
    assert len([r for r in kinds if r["step"] == 0 and r["kind"] == "validation"]) == 1


@pytest.mark.slow
def test_dropped_items_are_listed_in_the_run(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data, ignore=shutil.ignore_patterns(".*"))
    (data / "3.png").write_bytes(b"no picture")
    output = tmp_path / "run"
    drop = ("--set", "data.on_bad_item=drop", "--steps", 1)
    result = byg(*small(tiny_base, data, output, *drop))
    assert result.exit_code == 0, result.output
    dropped = (output / "dropped.txt").read_text().splitlines()
    assert len(dropped) == 1 and "metadata.jsonl:4" in dropped[0]
