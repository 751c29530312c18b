"""The command line as a person meets it: plans, mistakes, a run, its resumption."""

from __future__ import annotations

import collections
import errno
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from families import change_embedded
from rich.console import Console
from typer.testing import CliRunner, Result

from byg_train.cli import train as train_module
from byg_train.cli.app import app
from byg_train.config import PRESETS, TrainConfig, build_config, load_preset
from byg_train.data.items import load_items
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora_file import write_lora
from byg_train.training import bench, trainer
from byg_train.training import plan as plan_module
from byg_train.training.plan import shapes
from byg_train.training.run_folder import read_config
from byg_train.training.trainer import Interrupted, TrainingError

SMALL = (
    "model.text_len=24",
    "model.dtype=float32",
    "model.gradient_checkpointing=false",
    "data.resolution=16",
    "rollout.steps=2",
    "warmup.min_steps=1",
    "warmup.max_steps=1",
    "lora.rank=2",
    "train.global_batch=2",
    "train.batch_size=2",
    "sample.steps=1",
    "sample.count=1",
)


def byg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def small(base: Path, data: Path, output: Path, *more: object) -> list[object]:
    settings = [part for assignment in SMALL for part in ("--set", assignment)]
    where = ["--model", base, "--data", data, "--output", output, "--device", "cpu"]
    return ["--preset", "flux_style", *where, *settings, *more]


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if a command gets as far as training."""

    def refuse(*_: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(train_module, "_train", refuse)


def refused(result: Result, *words: str) -> None:
    """Exit code 2, one message with these words on stderr, no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr, result.stderr


# ---------------------------------------------------------------- mistakes


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--preset flux_styl", ["flux_styl", "did you mean 'flux_style'?"]),
        ("--preset demo --set method.alhpa=1", ["method.alhpa", "'alpha'"]),
        ("--preset demo --data nowhere", ["nowhere", "does not exist"]),
        ("--preset demo --config nowhere.toml", ["nowhere.toml", "does not exist"]),
        ("--data somewhere", ["--preset", "demo"]),
        ("presets --preset demo", ["--preset"]),
        ("--preset demo presets", ["--preset", "'presets'"]),
        ("--set a.b=1 presets", ["--set", "'presets'"]),
        ("train", ["train"]),
    ],
)
def test_wrong_words(
    words: str, answer: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(byg(*words.split()), *answer)
    assert list(tmp_path.iterdir()) == []


def row(**fields: str) -> str:
    texts = ("src_caption", "tgt_caption", "instruction", "reverse_instruction")
    return json.dumps({"file_name": "0.png", **{t: t for t in texts}, **fields})


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (None, ["empty"]),
        (row() + "\n{broken", ["metadata.jsonl:2"]),
        (row(src_caption=""), ["metadata.jsonl:1", "src_caption"]),
        (row(src_caption="Same", tgt_caption="same"), ["metadata.jsonl:1", "equal captions"]),
        (row(file_name="cut.png"), ["metadata.jsonl:1", "cut.png", "broken"]),
        (row(file_name="gone.png"), ["metadata.jsonl:1", "gone.png"]),
    ],
)
def test_wrong_data(
    lines: str | None, answer: list[str], tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if lines is not None:
        shutil.copy(tiny_data / "0.png", data)
        (data / "cut.png").write_bytes((tiny_data / "0.png").read_bytes()[:200])
        (data / "metadata.jsonl").write_text(lines)
    refused(byg(*small(tiny_base, data, tmp_path / "run")), *answer)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_loads")
def test_checks_come_in_order(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, data, output folder, disk, base model: each hides all that comes after it."""
    full = collections.namedtuple("Usage", "total used free")(10**12, 10**12, 1000)
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: full)
    output = tmp_path / "taken"
    output.mkdir()
    (output / "holiday.jpg").touch()
    base, data = tmp_path / "no model", tmp_path / "no data"
    refused(byg(*small(base, data, output, "--set", "lora.rank=-1")), "lora.rank")
    refused(byg(*small(base, data, output)), "no data")
    refused(byg(*small(base, tiny_data, output)), "taken", "holds no run")
    output = tmp_path / "new"
    refused(byg(*small(base, tiny_data, output)), "too little disk space", "needed", "free")
    monkeypatch.undo()
    monkeypatch.setattr(train_module, "_train", None)
    refused(byg(*small(base, tiny_data, output)), "no model")
    assert not output.exists()


@pytest.mark.usefixtures("nothing_loads")
def test_hub_unreachable(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run offline: the preset's own base has no local copy. Its download needs space, too."""
    usage = collections.namedtuple("Usage", "total used free")
    free = [30e9, 60e9]
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: usage(0, 0, free[0]))
    command = ["--preset", "flux_edit", "--data", tiny_data, "--set", "data.resolution=16"]
    command += ["--output", tmp_path / "run", "--set", "train.steps=10"]
    refused(byg(*command), "too little disk space", "download of the base 33.")
    del free[0]
    refused(byg(*command), "black-forest-labs/FLUX.1-dev", "cannot be reached")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_loads")
def test_a_preset_without_data_says_what_it_needs() -> None:
    result = byg("--preset", "flux_style")
    refused(
        result, "--data", "metadata.jsonl", "folder for each style", "Plan of preset flux_style"
    )
    assert "python -m byg_train --preset demo" in result.stderr


def warmup_file(folder: Path, width: int = 32, rank: int = 2) -> Path:
    name = "transformer_blocks.0.attn.to_q.lora_{}.weight"
    tensors = {
        name.format("A"): torch.zeros(rank, width), name.format("B"): torch.zeros(width, rank)
    }  # fmt: skip
    write_lora(folder / "w.safetensors", tensors, scale=1, family="flux", metadata={})
    return folder / "w.safetensors"


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (None, ["w.safetensors", "does not exist"]),
        ((32, 3), ["its rank is 3, lora.rank is 2", "warmup.lora=null"]),
        ((48, 2), ["48 wide, the model's 32", "choose another"]),
    ],
)
def test_an_unfit_warmup_is_refused_before_loading(
    shape: tuple[int, int] | None,
    words: list[str],
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    if shape:
        warmup_file(tmp_path, *shape)
    more = ["--set", f"warmup.lora={tmp_path / 'w.safetensors'}"]
    refused(byg(*small(tiny_base, tiny_data, tmp_path / "run", *more)), "warmup.lora", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_loads")
def test_the_shipped_warmup_fits_its_own_base_and_rank_alone(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_embedded(monkeypatch, "flux", warmup=warmup_file(tmp_path, 128, 32))
    more = ["--preset", "demo", "--data", tiny_data, "--set", "data.resolution=16"]
    own_base = [*more, "--model", tiny_base, "--output", tmp_path / "run"]
    instead = "--set warmup.lora=null --set warmup.min_steps=300"
    refused(byg(*own_base), "128 wide", "32", instead)
    words = instead.split()
    monkeypatch.setattr(train_module, "_train", lambda *_: None)
    assert byg(*own_base, *words).exit_code == 0


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("setting", "package"),
    [("optimizer.name=adamw8bit", "bitsandbytes"), ("train.wandb=true", "wandb")],
)
def test_a_missing_package_is_named_before_loading(
    setting: str,
    package: str,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = train_module.importlib.util.find_spec
    monkeypatch.setattr(
        train_module.importlib.util,
        "find_spec",
        lambda n, *a: None if n == package else real(n, *a),
    )
    command = small(tiny_base, tiny_data, tmp_path / "run", "--set", setting)
    refused(byg(*command), setting, f"pip install {package}")


@pytest.mark.usefixtures("nothing_loads")
def test_several_processes_are_refused(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(byg(*small(tiny_base, tiny_data, tmp_path / "run")), "2 processes", "one GPU")


def test_an_output_that_cannot_be_written(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = byg(*small(tiny_base, tiny_data, tmp_path / "file" / "run"))
    refused(result, "file", "Not a directory")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("nothing_loads")
def test_a_configuration_that_is_a_folder(tmp_path: Path) -> None:
    refused(byg("--config", tmp_path), "configuration file", "directory")


# ---------------------------------------------------------------- plans


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_has_a_plan(
    preset: str, tiny_data: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    of_clips = build_config(load_preset(preset)).data.frames > 1
    data, side = (tiny_clips, 32) if of_clips else (tiny_data, 16)
    command = ["--preset", preset, "--data", data, "--set", f"data.resolution={side}"]
    result = byg(*command, "--dry-run", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for words in (
        f"Plan of preset {preset}",
        "5 for training, 1 held out",
        f"{side}x{side}: 5",
        "estimates",
    ):
        assert words in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("preset", "tokens", "host"),
    [("wan22_style", "30,240", "57.1 GB of main memory"), ("wan22_5b_style", "7,560", "")],
)
def test_a_video_preset_without_data_says_what_it_needs_and_what_runs_now(
    preset: str, tokens: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a 16:9 clip, with its source."""
    monkeypatch.setattr(train_module, "CONSOLE", Console(stderr=True, width=220))
    result = byg("--preset", preset)
    plain = ["--data DATA", "cat.mp4", "metadata.jsonl", "a caption beside every clip"]
    refused(result, *plain, f"Plan of preset {preset}", "such as 576x320; 81 frames")
    refused(result, f"{tokens} attend to each other", "F in full", host, "750 of 8 items")
    lines = result.stderr.splitlines()
    one, eight = (next(x for x in lines if f"time, {n} GPU" in x) for n in (1, 8))
    assert "H100" in one and "H100" in eight and "the paper's machine" in eight
    assert lines[-1].endswith("this runs now: python -m byg_train --preset demo_video")


@pytest.mark.usefixtures("nothing_loads")
def test_one_expert_of_a_base_that_has_no_two_is_refused(
    tiny_base: Path, tiny_data: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    command = small(tiny_base, tiny_data, tmp_path / "run", "--set", "train.expert=low")
    refused(byg(*command), "train.expert is 'low'", "Wan alone")
    command = ["--preset", "wan22_5b_style", "--data", tiny_clips, "--output", tmp_path / "run"]
    refused(byg(*command, "--set", "train.expert=high"), "'high'", "has one network")


def test_a_plan_says_what_is_too_large_and_what_must_come_first(tiny_data: Path) -> None:
    command = ["--preset", "flux_edit", "--data", tiny_data, "--dry-run"]
    plain = " ".join(byg(*command).stdout.split())
    assert "download of the base 33." in plain and "A100 " in plain
    large = byg(*command, "--set", "model.dtype=float32", "--set", "lora.rank=2048")
    assert "fits none of the known GPUs" in " ".join(large.stdout.split())
    other = byg(*command, "--model", "somebody/else")
    assert "download of the base, of unknown size" in " ".join(other.stdout.split())


def test_the_demo_plans_with_its_own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered into a temporary folder, and counted."""
    from byg_train.world import demo

    prepare, folders = demo.prepare, []

    def few(folder: Path) -> Path:
        folders.append(folder)
        return prepare(folder, items=30)

    monkeypatch.setattr(demo, "prepare", few)
    monkeypatch.chdir(tmp_path)
    result = byg("--preset", "demo", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "for training" in result.stdout and "none yet" not in result.stdout
    assert folders[0].is_relative_to(tempfile.gettempdir()) and not folders[0].exists()
    assert not list(tmp_path.iterdir())


def test_shapes_count_buckets_and_tokens(tiny_base: Path, tiny_data: Path) -> None:
    """Tokens of 8 x 8 px: 4 in a 16 px square; the mean over buckets is weighted by items."""
    tables = {"model": {"path": str(tiny_base), "text_len": 24}}
    config = build_config({**tables, "data": {"path": str(tiny_data), "resolution": 16}})
    found = shapes(config, 8, load_items(config.data, 8))
    assert (dict(found.sizes), found.text, found.image) == ({(16, 16): 5}, 24, {(16, 16): 4})
    assert found.mean_image == 4
    mixed = found._replace(sizes=collections.Counter({(16, 16): 3, (24, 8): 1}))
    mixed = mixed._replace(image={(16, 16): 4, (24, 8): 3})
    assert mixed.mean_image == pytest.approx((3 * 4 + 3) / 4)


def test_presets_are_listed() -> None:
    result = byg("presets")
    assert result.exit_code == 0
    for name in PRESETS:
        assert name in result.stdout
    assert "30000" in result.stdout and "world" in result.stdout


def test_print_config_is_accepted_again(tmp_path: Path) -> None:
    changes = ["--set", "method.ema_decay=null", "--seed", 3, "--steps", 7]
    first = byg("--preset", "demo", *changes, "--print-config")
    file = tmp_path / "printed.toml"
    file.write_text(first.stdout)
    second = byg("--config", file, "--print-config")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert second.stdout == first.stdout
    assert "steps = 7\n" in first.stdout and 'ema_decay = "null"\n' in first.stdout


# ---------------------------------------------------------------- the demo


def test_the_demo_draws_its_data_into_the_run(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second run finds what the first has drawn, and does not mistake it for a run."""
    from byg_train.world import demo

    prepare, seen = demo.prepare, []
    monkeypatch.setattr(demo, "prepare", lambda folder: prepare(folder, items=30))
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
    assert len(data.train) >= 28 and len(data.test) == 4


@pytest.mark.usefixtures("nothing_loads")
def test_the_demo_draws_nothing_into_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    refused(byg("--preset", "demo", "--output", tmp_path), "holds no run")
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_bench_measures_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(bench, "run", lambda device, batch: (device, batch))
    monkeypatch.setattr(bench, "show", seen.append)
    assert byg("bench", "--device", "cpu", "--batch", 3).exit_code == 0
    assert seen == [("cpu", 3)]
    refused(byg("bench", "--device", "tpu"), "tpu")


# ---------------------------------------------------------------- a run


def test_a_run_and_its_resumption(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
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
    assert (output / "mine.safetensors").read_bytes() == before
    assert read_config(output) == config

    result = go("--steps", 3, "--resume")
    assert result.exit_code == 0, result.output
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
    from byg_train.world import demo

    prepare, reported = demo.prepare, []
    monkeypatch.setattr(demo, "prepare", lambda folder: prepare(folder, items=30))
    monkeypatch.setattr(demo, "report", lambda *args: reported.append(args))

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
        (train_module, "load_shown"),
        (train_module, "write_config"),
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
        signal.raise_signal(signal.SIGTERM)
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
    from byg_train.world import demo

    prepare = demo.prepare
    monkeypatch.setattr(demo, "prepare", lambda folder: prepare(folder, items=30))
    monkeypatch.setattr(demo, "report", lambda *_: signal.raise_signal(signal.SIGINT))
    where = ["--model", tiny_base, "--output", tmp_path / "mine", "--device", "cpu"]
    sets = [part for a in (*SMALL, "warmup.lora=null") for part in ("--set", a)]
    result = byg("--preset", "demo", "--steps", 1, *where, *sets)
    assert result.exit_code == 130, result.output
    assert "complete, but not measured" in result.stderr
    assert str(tmp_path / "mine" / "mine.safetensors") in result.stderr


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
        (output / "metrics.jsonl").write_text('{"step": 0, "kind": "held_out"}\n')
        raise TrainingError("too soon")

    monkeypatch.setattr(trainer, "train", end)
    assert byg(*small(tiny_base, tiny_data, output, "--steps", 1)).exit_code == 1
    monkeypatch.undo()
    again = byg(*small(tiny_base, tiny_data, output, "--steps", 1, "--set", "lora.rank=3"))
    assert again.exit_code == 0, again.output
    assert read_config(output).lora.rank == 3
    kinds = [json.loads(x) for x in (output / "metrics.jsonl").read_text().splitlines()]
    assert len([r for r in kinds if r["step"] == 0 and r["kind"] == "held_out"]) == 1


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
