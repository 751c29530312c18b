"""Mistakes on the command line: each is refused in one sentence, before anything is loaded."""

from __future__ import annotations

import collections
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from cli_runs import byg, refused, small
from families import change_embedded

from byg_train.cli import train as train_module
from byg_train.files import held
from byg_train.models.lora_file import write_lora


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
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
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
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free[0]))
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
    instead = "warmup.lora=null", "warmup.min_steps=300"
    refused(byg(*own_base), "128 wide", "32", *instead)
    words = [word for setting in instead for word in ("--set", setting)]
    monkeypatch.setattr(train_module, "_train", lambda *_: None)
    assert byg(*own_base, *words).exit_code == 0


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("setting", "package"),
    [
        ("optimizer.name=adamw8bit", "bitsandbytes"),
        ("model.storage=nf4", "bitsandbytes"),
        ("model.storage=int8", "torchao"),
        ("train.wandb=true", "wandb"),
    ],
)
def test_a_missing_package_is_named_before_loading(
    setting: str,
    package: str,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda n, *a: None if n == package else real(n, *a),
    )
    command = small(tiny_base, tiny_data, tmp_path / "run", "--set", setting)
    result = byg(*command)
    refused(result, setting, f"pip install {package}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("world", "words"),
    [
        ("3", ("train.global_batch 2", "3 processes", "a multiple of 3, or start 2")),
        ("2", ("2 processes", "MASTER_ADDR", "torchrun")),
    ],
)
def test_processes_that_cannot_share_are_refused(
    world: str,
    words: tuple[str, ...],
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    command = small(tiny_base, tiny_data, tmp_path / "run", "--set", "train.batch_size=1")
    refused(byg(*command), *words)


def test_a_folder_that_another_run_writes_to_is_refused(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with held(run / ".running") as first:
        assert first
        refused(byg(*small(tiny_base, tiny_data, run)), "another run writes to", "another folder")
        assert [path.name for path in run.iterdir()] == [".running"]
    assert not list(run.iterdir())


def test_an_output_that_cannot_be_written(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = byg(*small(tiny_base, tiny_data, tmp_path / "file" / "run"))
    refused(result, "file", "Not a directory")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("nothing_loads")
def test_a_configuration_that_is_a_folder(tmp_path: Path) -> None:
    refused(byg("--config", tmp_path), "configuration file", "directory")
