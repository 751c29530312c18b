"""What `export` packs of a run: the weights asked for, and what goes with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exports import FLUX, export, nodes
from PIL import Image
from safetensors.torch import save_file

from byg_train.config import ConfigError, build_config
from byg_train.data.items import load_items
from byg_train.export.run import export_run
from byg_train.models.lora_file import LoraInfo, read_lora, write_lora
from byg_train.training.checkpoint import load_checkpoint
from byg_train.training.run_folder import write_config
from byg_train.training.trainer import train

LORA = "mine.safetensors"


@pytest.fixture(scope="module")
def run(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps after one of warm-up: files and checkpoints of steps 3 and 5, EMA, scale 2."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    tables = {
        "model": {
            "path": str(tiny_base),
            "dtype": "float32",
            "text_len": 24,
            "gradient_checkpointing": False,
        },
        "data": {"path": str(tiny_data), "resolution": 16},
        "method": {"ema_decay": 0.9, "identity_probability": 0.0},
        "rollout": {"steps": 2},
        "warmup": {"min_steps": 1, "max_steps": 1},
        "lora": {"rank": 2, "alpha": 4.0},
        "train": {
            "steps": 4,
            "batch_size": 1,
            "global_batch": 1,
            "sample_every": 2,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
        },
        "sample": {"steps": 2, "shift": 1.5, "count": 1},
    }
    config = build_config(tables)
    write_config(folder, config)
    train(config, load_items(config.data, 8), folder, device="cpu", resume=False)
    return folder


def test_the_newest_weights_with_all_that_goes_with_them(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = export(run, "--output", output, "--name", "ink style")
    assert result.exit_code == 0, result.output
    names = {"README.md", "ink style.png", "ink style.safetensors"}  # no stock node loads its base
    assert {p.name for p in output.iterdir()} == names
    found, wanted = (read_lora(p) for p in (output / "ink style.safetensors", run / LORA))
    assert found.tensors.keys() == wanted.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in wanted.tensors.items())
    with Image.open(output / "ink style.png") as preview:
        preview.load()
    newest = max((run / "samples").glob("*.png"))
    assert (output / "ink style.png").read_bytes() == newest.read_bytes()
    assert "ink style.safetensors" in (output / "README.md").read_text()


@pytest.mark.parametrize("step", [3, 5])
@pytest.mark.parametrize("weights", ["live", "ema"])
def test_weights_of_a_step(run: Path, tmp_path: Path, weights: str, step: int) -> None:
    """The checkpoint's tensors, with alpha / rank = 2 baked into B, in bf16."""
    export_run(run, weights=weights, step=step, output=tmp_path / "out", name=None)
    file = read_lora(tmp_path / "out" / "mine.safetensors")
    info = LoraInfo.from_metadata(file.metadata)
    role = {"live": "edit", "ema": "ema"}[weights]
    assert (info.steps, info.weights) == (step, role)
    state = load_checkpoint(run / "checkpoints" / f"step-{step:06d}")["lora"]
    wanted = {
        key.removeprefix(f"{role}.transformer."): value * (2 if ".lora_B" in key else 1)
        for key, value in state.items()
        if key.startswith(f"{role}.")
    }
    assert wanted.keys() == file.tensors.keys() and wanted
    for name, tensor in wanted.items():
        assert torch.equal(tensor.to(torch.bfloat16), file.tensors[name])


def test_ema_and_steps_differ(run: Path, tmp_path: Path) -> None:
    """So that the test above could not pass with any of the others."""
    files = []
    for weights, step in (("live", 3), ("live", 5), ("ema", 5)):
        output = tmp_path / f"{weights}{step}"
        export_run(run, weights=weights, step=step, output=output, name="x")
        files.append(read_lora(output / "x.safetensors").tensors)
    names = [name for name in files[0] if ".lora_B" in name]
    for other in (0, 2):
        assert any(not torch.equal(files[1][n], files[other][n]) for n in names)


def test_an_interrupted_run_without_a_lora_file(run: Path, tmp_path: Path) -> None:
    """Only a checkpoint: the metadata comes from the settings and the data."""
    folder = tmp_path / "mine"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("samples"))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    written = export_run(folder, weights="live", step=3, output=None, name=None)
    found = read_lora(folder / "export" / "mine.safetensors")
    wanted = read_lora(run / "mine-000003.safetensors")
    assert all(torch.equal(found.tensors[k], v) for k, v in wanted.tensors.items())
    infos = [LoraInfo.from_metadata(f.metadata) for f in (found, wanted)]
    assert replace(infos[0], date="") == replace(infos[1], date="", base=Path(infos[1].base).name)
    assert [p.name for p in written] == ["mine.safetensors", "README.md"]
    assert "![" not in written[-1].read_text()


def test_the_preview_is_not_newer_than_the_weights(run: Path, tmp_path: Path) -> None:
    export_run(run, weights="live", step=3, output=tmp_path / "out", name="x")
    older = run / "samples" / "step-000003.png"
    assert (tmp_path / "out" / "x.png").read_bytes() == older.read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--weights", "best"], ["best", "live or ema"]),
        (["--step", 4], ["step 4", "3, 5"]),
        (["--name", "../evil"], ["../evil"]),
        (["--name", ".hidden"], [".hidden"]),
        (["--output", "."], ["not empty"]),
    ],
)
def test_mistakes(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[object],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    before = {p: p.stat().st_mtime_ns for p in (*tmp_path.rglob("*"), *run.rglob("*"))}
    result = export(run, *more)
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr
    assert {p: p.stat().st_mtime_ns for p in (*tmp_path.rglob("*"), *run.rglob("*"))} == before


def test_no_run_and_no_ema(run: Path, tmp_path: Path) -> None:
    result = export(tmp_path)
    assert result.exit_code == 2 and "is no run" in result.stderr
    folder = tmp_path / "mine"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    result = export(folder, "--weights", "ema")
    assert result.exit_code == 2 and "no EMA weights yet" in result.stderr


@pytest.mark.parametrize("content", ["foreign", "cut"])
def test_a_stray_file_in_the_run_is_named(run: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(run, folder)
    whole = (run / LORA).read_bytes()
    save_file({"x": torch.zeros(2)}, folder / "stray.safetensors")
    if content == "cut":
        (folder / "stray.safetensors").write_bytes(whole[: len(whole) // 2])
    result = export(folder)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "stray.safetensors" in result.stderr and "move it out" in result.stderr


def test_an_export_tells_nothing_of_the_disk(run: Path, tiny_base: Path, tmp_path: Path) -> None:
    """The run's own file knows where its base is; what is shared names it alone."""
    export_run(run, weights="live", step=None, output=tmp_path / "out", name="x")
    assert str(tiny_base.parent).encode() in (run / LORA).read_bytes()
    for file in (tmp_path / "out").iterdir():
        assert str(tiny_base.parent).encode() not in file.read_bytes(), file.name


def test_an_export_for_a_base_that_comfyui_knows(run: Path, tmp_path: Path) -> None:
    """The same run, had it been on the hub's model: the workflow loads it, and the LoRA."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(run / "config.toml", folder)
    file = read_lora(run / LORA)
    metadata = replace(LoraInfo.from_metadata(file.metadata), base=FLUX.base).to_metadata()
    write_lora(folder / LORA, file.tensors, scale=1.0, family="flux", metadata=metadata)
    written = export_run(folder, weights="live", step=None, output=None, name="ink")
    assert [p.name for p in written] == ["ink.safetensors", "ink.workflow.json", "README.md"]
    graph = json.loads(written[1].read_text())
    assert nodes(graph)["LoraLoaderModelOnly"]["widgets_values"][0] == "ink.safetensors"


def test_exporting_again_replaces_the_export_alone(run: Path, tmp_path: Path) -> None:
    for step in (3, 5):
        export_run(run, weights="live", step=step, output=tmp_path / "out", name="x")
    info = LoraInfo.from_metadata(read_lora(tmp_path / "out" / "x.safetensors").metadata)
    assert info.steps == 5
    # What someone wrote into the card is kept, and a copy among the samples is no step.
    card = tmp_path / "out" / "README.md"
    card.write_text(card.read_text() + "mine")
    (run / "samples" / "step-000005 copy.png").write_bytes(b"")
    export_run(run, weights="live", step=5, output=tmp_path / "out", name="x")
    assert card.with_name("README.md.bak").read_text().endswith("mine")
    assert not card.read_text().endswith("mine")
    (run / "samples" / "step-000005 copy.png").unlink()
    with pytest.raises(ConfigError, match="folder of its own"):
        export_run(run, weights="live", step=5, output=run, name=None)
