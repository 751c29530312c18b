"""Whole trainings of a tiny Wan of two experts: exact resume, files, the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from peft import get_peft_model_state_dict
from runs import metrics, stop_after, timeless
from safetensors.torch import load_file, save_file
from states import same
from tiny_wan import BOUNDARY, FRAMES, PARTS, WEIGHTS, base, latents, original, text
from typer.testing import CliRunner
from wan_loras import COMFY
from wan_run import FPS, run, settings, trainer

from byg_train.cli.app import app
from byg_train.config import ConfigError
from byg_train.data.items import load_items
from byg_train.models.lora_file import LoraInfo, expert_path, read_lora
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import train

# ---------------------------------------------------------------- resume


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(
    wan_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(wan_clips, {"train": {"steps": 5, "global_batch": 2}})
    whole = [path.name for path in run(config, tmp_path / "whole" / "run")]
    assert whole == ["run_high_noise.safetensors", "run_low_noise.safetensors"]
    stop_after(monkeypatch, 1, 4)  # once in the warm-up, once in the method
    for resume in (False, True):
        with pytest.raises(Interrupted, match="stopped at step"):
            run(config, tmp_path / "parts" / "run", resume)
    run(config, tmp_path / "parts" / "run", True)
    a, b = (checkpoints(tmp_path / p / "run" / "checkpoints")[-1] for p in ("whole", "parts"))
    one, two = map(load_checkpoint, (a, b))
    assert same(one, two)
    roles = {tuple(key.split(".")[:2]) for key in one["lora"]}
    assert roles == {(role, e) for role in ("edit", "ema") for e in ("high", "low")}
    assert (a / "state.json").read_text() == (b / "state.json").read_text()
    for name in whole:
        one, two = (load_file(tmp_path / p / "run" / name) for p in ("whole", "parts"))
        assert all(torch.equal(one[key], two[key]) for key in one), name
    assert timeless(tmp_path / "whole" / "run") == timeless(tmp_path / "parts" / "run")


# ---------------------------------------------------------------- files


@pytest.mark.slow
def test_both_files_load_in_diffusers_and_have_comfyuis_names(
    wan_clips: Path, tmp_path: Path
) -> None:
    files = run(settings(wan_clips, {"train": {"steps": 1}}), tmp_path / "cartoon")
    assert [path.name for path in files] == [
        "cartoon_high_noise.safetensors", "cartoon_low_noise.safetensors",
    ]  # fmt: skip
    pipe = WanPipeline.from_pretrained(base())
    for expert, path in zip(("high", "low"), files, strict=True):
        file = read_lora(path)
        info = LoraInfo.from_metadata(file.metadata)
        assert (info.expert, info.boundary, info.family) == (expert, BOUNDARY, "wan")
        assert (info.frames, info.fps, info.sample_shift, info.rank) == (FRAMES, FPS, 12.0, 4)
        into = {"load_into_transformer_2": True} if expert == "low" else {}
        pipe.load_lora_weights(
            tmp_path / "cartoon", weight_name=path.name, adapter_name=expert, **into
        )
        network = getattr(pipe, PARTS[expert])
        found = get_peft_model_state_dict(network, adapter_name=expert)
        stored = file.by_diffusers_names()
        assert found.keys() == stored.keys()
        assert all(torch.equal(found[k].float(), stored[k].float()) for k in stored)
        assert any(v.abs().max() > 0 for k, v in stored.items() if "lora_B" in k)
        weights = original(load_file(base() / PARTS[expert] / WEIGHTS))
        modules = {name.rsplit(".lora_", 1)[0] for name in file.tensors}
        assert modules < {name.removesuffix(".weight") for name in weights}
        assert file.prefix == "diffusion_model."


def test_comfyui_takes_both_files_whole(wan_clips: Path, tmp_path: Path, comfyui: Path) -> None:
    """Its stock loader: every key has its module, and the output moves."""
    files = run(settings(wan_clips, {"train": {"steps": 1}}), tmp_path / "cartoon")
    for expert, path in zip(("high", "low"), files, strict=True):
        folder = tmp_path / expert
        folder.mkdir()
        shutil.copy(path, folder / "lora.safetensors")
        (folder / "job.json").write_text(json.dumps({"class": "WAN21_T2V", "shape": COMFY}))
        weights = load_file(base() / PARTS[expert] / WEIGHTS)
        save_file(original(weights), folder / "model.safetensors")
        inputs = {"x": latents(1), "source": latents(7), "t": torch.full((2,), 0.9), **text(2)}
        save_file(inputs, folder / "inputs.safetensors")
    script, folders = Path(__file__).with_name("comfy_wan.py"), [tmp_path / e for e in PARTS]
    command = [sys.executable, str(script), str(comfyui), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        report = json.loads((folder / "report.json").read_text())
        assert report["warnings"] == [] and len(report["patched"]) == 2 * 10
        outputs = load_file(folder / "outputs.safetensors")
        assert (outputs["lora"] - outputs["base"]).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("expert", ["high", "low"])
def test_one_expert_can_be_trained_alone(expert: str, wan_clips: Path, tmp_path: Path) -> None:
    config = settings(wan_clips, {"train": {"expert": expert, "steps": 2, "checkpoint_every": 1}})
    files = run(config, tmp_path / "run")
    assert files == [expert_path(tmp_path / "run" / "run.safetensors", expert)]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.safetensors")) == sorted(
        [files[0].name, f"run-000003_{expert}_noise.safetensors"]
    )
    info = LoraInfo.from_metadata(read_lora(files[0]).metadata)
    assert (info.expert, info.boundary) == (expert, BOUNDARY)
    t = trainer(config, tmp_path / "again")
    other = {"high": "low", "low": "high"}[expert]
    assert t.spans == {expert: t.backbone.spans[expert]}
    assert not any("lora" in name for name, _ in t.backbone.experts[other].named_parameters())
    assert not any(p.requires_grad for p in t.backbone.experts[other].parameters())


@pytest.mark.slow
def test_one_network_has_no_expert_to_choose(wan_clips: Path, tmp_path: Path) -> None:
    over = {"data": {"resolution": 64}}
    with pytest.raises(ConfigError, match="train.expert is 'high', and .* has one network"):
        trainer(settings(wan_clips, {**over, "train": {"expert": "high"}}, "one"), tmp_path / "a")
    config = settings(wan_clips, {"train": {"steps": 1}, "data": {"resolution": 45}}, "one")
    data = load_items(config.data, 32)
    (tmp_path / "b").mkdir()
    files = train(config, data, tmp_path / "b", device="cpu", resume=False)
    assert [path.name for path in files] == ["b.safetensors"]
    info = LoraInfo.from_metadata(read_lora(files[0]).metadata)
    assert (info.expert, info.boundary, info.multiple) == (None, None, 32)
    assert not any("/" in k for m in metrics(tmp_path / "b") if m["kind"] == "full" for k in m)


# ---------------------------------------------------------------- the command line


@pytest.mark.slow
def test_a_video_run_from_the_command_line(wan_clips: Path, tmp_path: Path) -> None:
    """The paper's preset on tiny experts: trained, looked at, resumed; what may be typed next."""
    sets = [
        "model.text_len=8", "model.dtype=float32", "data.resolution=45", "data.frames=5",
        "data.fps=8", "rollout.steps=3", "warmup.min_steps=1", "warmup.max_steps=1", "lora.rank=2",
        "train.global_batch=2", "sample.steps=2", "sample.count=1",
    ]  # fmt: skip
    command = ["--preset", "wan22_style", "--model", str(base()), "--data", str(wan_clips)]
    command += ["--output", str(tmp_path / "mine"), "--device", "cpu"]
    command += [part for assignment in sets for part in ("--set", assignment)]
    result = CliRunner().invoke(app, [*command, "--steps", "1"])
    assert result.exit_code == 0, result.output
    high, low = (tmp_path / "mine" / f"mine_{e}_noise.safetensors" for e in ("high", "low"))
    assert f"The LoRA is {high} and {low};" in result.stdout
    assert f"edit --lora {high} --input clip.mp4" in result.stdout
    assert "step-000002.mp4." in result.stdout and "--single-expert" not in result.stdout
    looks = sorted(path.name for path in (tmp_path / "mine" / "samples").iterdir())
    assert looks == [f"step-00000{i}.{kind}" for i in (0, 2) for kind in ("mp4", "png")]
    info = LoraInfo.from_metadata(read_lora(low).metadata)
    assert (info.sampler, info.cfg, info.cfg_low, info.steps) == ("unipc", 4.0, 3.0, 2)
    refused = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert refused.exit_code == 2 and "already holds a run" in refused.stderr
    other = CliRunner().invoke(app, [*command, "--resume", "--set", "train.expert=low"])
    assert other.exit_code == 2 and "train.expert: 'both' in the run, 'low' now" in other.stderr
    again = CliRunner().invoke(app, [*command, "--steps", "2", "--resume"])
    assert again.exit_code == 0, again.output
    taken = [
        m["step"] for m in metrics(tmp_path / "mine") if m["kind"] in ("warmup", "full", "identity")
    ]
    assert taken == [1, 2, 3]
    command[command.index("--output") + 1] = str(tmp_path / "one")
    alone = CliRunner().invoke(app, [*command, "--steps", "1", "--set", "train.expert=low"])
    assert "--output edited.mp4 --single-expert" in alone.stdout, alone.output
