"""A Wan's LoRA files, one per expert: diffusers and ComfyUI load them with equal outputs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_wan import (
    PARTS,
    WEIGHTS,
    base,
    config,
    latents,
    original,
    text,
    velocity,
)
from wan_loras import ALL, COMFY, INFO, TIMES, trained, write

from byg_train.models.lora_file import (
    LoraInfo,
    expert_path,
    expert_paths,
    read_lora,
    write_lora,
)
from byg_train.models.wan.backbone import WanBackbone
from byg_train.models.wan.loading import Base

# ---------------------------------------------------------------- files


def test_one_file_per_expert(tmp_path: Path) -> None:
    backbone, bank = trained()
    paths = [write(bank, e, tmp_path / "cartoon-000100.safetensors") for e in backbone.experts]
    assert [p.name for p in paths] == [
        "cartoon-000100_high_noise.safetensors", "cartoon-000100_low_noise.safetensors",
    ]  # fmt: skip
    assert expert_path(tmp_path / "a.safetensors", "transformer") == tmp_path / "a.safetensors"
    high, low = (load_file(p) for p in paths)
    assert high.keys() == low.keys() and len(high) == 2 * 2 * 10
    assert not torch.equal(
        *(f["diffusion_model.blocks.0.ffn.2.lora_B.weight"] for f in (high, low))
    )


def test_either_file_of_a_pair_names_both() -> None:
    pair = {e: Path(f"loras/cartoon_{e}_noise.safetensors") for e in ("high", "low")}
    for path in (*pair.values(), Path("loras/cartoon.safetensors")):
        assert expert_paths(path, ["high", "low"]) == pair
        assert expert_paths(path, ["low"]) == {"low": pair["low"]}
        assert expert_paths(path, ["transformer"]) == {"transformer": path}


def test_modules_have_wans_own_names_and_come_back(tmp_path: Path) -> None:
    backbone, bank = trained(targets=ALL)
    file = read_lora(write(bank, "low", tmp_path / "l.safetensors"))
    network = load_file(base() / "transformer" / WEIGHTS)
    weights = {name.removesuffix(".weight") for name in original(network)}
    modules = {name.rsplit(".lora_", 1)[0] for name in file.tensors}
    assert modules <= weights and len(modules) == 2 * 10 + 6
    assert {"blocks.1.cross_attn.o", "head.head", "time_projection.1"} <= modules
    assert file.by_diffusers_names().keys() == bank.tensors("low", "edit").keys()
    again = tmp_path / "again.safetensors"  # as `export` does: stored names in, the same names out
    write_lora(again, file.tensors, scale=1.0, family="wan", metadata={})
    assert load_file(again).keys() == load_file(tmp_path / "l_low_noise.safetensors").keys()


def test_fluxs_names_stay(tmp_path: Path) -> None:
    tensors = {f"proj_out.lora_{x}.weight": torch.zeros(2, 2) for x in "AB"}
    write_lora(tmp_path / "f.safetensors", tensors, scale=1.0, family="flux", metadata={})
    file = read_lora(tmp_path / "f.safetensors")
    assert file.by_diffusers_names().keys() == file.tensors.keys() == tensors.keys()


def test_metadata_of_an_expert(tmp_path: Path) -> None:
    _, bank = trained()
    metadata = read_lora(write(bank, "high", tmp_path / "l.safetensors")).metadata
    assert LoraInfo.from_metadata(metadata) == INFO
    said = {k: metadata[f"byg.{k}"] for k in ("expert", "boundary", "frames", "fps")}
    assert said == {"expert": "high", "boundary": "0.875", "frames": "81", "fps": "16.0"}
    assert metadata["ss_network_module"] == "networks.lora_wan"
    assert metadata["modelspec.architecture"] == "wan2.2/lora"
    alone = dataclasses.replace(INFO, expert=None, boundary=None)
    assert LoraInfo.from_metadata(alone.to_metadata()) == alone


# ---------------------------------------------------------------- readers we do not write


@pytest.mark.parametrize("kind", ["pair", "one"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_diffusers_loads_it_with_equal_outputs(
    kind: str, dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, bank = trained(kind)
    pipe = WanPipeline.from_pretrained(base(kind))
    networks = {e: getattr(pipe, PARTS.get(e, e)) for e in ours.experts}
    loaded = Base(base(kind), lambda: networks, ours.boundary)
    theirs = WanBackbone(config(base(kind)), loaded, "cpu")
    shape = (2, 4, 2, 4, 8)
    before = {e: velocity(theirs, TIMES[e]) for e in networks}
    for expert in networks:
        path = write(bank, expert, tmp_path / "l.safetensors", dtype=dtype)
        into = {"load_into_transformer_2": True} if expert == "low" else {}
        pipe.load_lora_weights(tmp_path, weight_name=path.name, adapter_name=expert, **into)
        found = get_peft_model_state_dict(networks[expert], adapter_name=expert)
        stored = read_lora(path).by_diffusers_names()
        assert found.keys() == stored.keys()
        assert all(torch.equal(found[k].float(), stored[k].float()) for k in stored)
    assert [record.getMessage() for record in caplog.records] == []
    for expert in networks:
        v, w = velocity(ours, TIMES[expert]), velocity(theirs, TIMES[expert])
        assert v.shape == shape
        assert (v - w).abs().max() < 1e-5 * v.abs().max()
        assert (v - before[expert]).abs().max() > 0.1


def test_comfyui_loads_it_with_equal_outputs(tmp_path: Path, comfyui: Path) -> None:
    """The velocity without a source, with one, and with a LoRA on every module it knows."""
    jobs = {"low": ("pair", "WAN21_T2V"), "transformer": ("one", "WAN22_T2V")}
    models = {e: trained(kind, targets=ALL) for e, (kind, _) in jobs.items()}
    for expert, (kind, comfy) in jobs.items():
        folder = tmp_path / expert
        path = write(models[expert][1], expert, folder / "l.safetensors", dtype=torch.float32)
        path.rename(folder / "lora.safetensors")
        (folder / "job.json").write_text(json.dumps({"class": comfy, "shape": COMFY}))
        weights = load_file(base(kind) / PARTS.get(expert, expert) / WEIGHTS)
        save_file(original(weights), folder / "model.safetensors")
        inputs = {"x": latents(1), "source": latents(7), "t": TIMES[expert], **text(2)}
        save_file(inputs, folder / "inputs.safetensors")
    script, folders = Path(__file__).with_name("comfy_wan.py"), [str(tmp_path / e) for e in jobs]
    command = [sys.executable, str(script), str(comfyui), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expert, (ours, bank) in models.items():
        report = json.loads((tmp_path / expert / "report.json").read_text())
        assert report["warnings"] == []
        assert len(report["patched"]) == 2 * 10 + 6
        outputs, t = load_file(tmp_path / expert / "outputs.safetensors"), TIMES[expert]
        edited = velocity(ours, t)
        with bank.using("base"), torch.no_grad():
            untouched, plain = velocity(ours, t), ours.velocity(latents(1), t, text(2))
        assert (edited - untouched).abs().max() > 0.1
        assert (untouched - plain).abs().max() > 1e-2
        for name, wanted in (("plain", plain), ("base", untouched), ("lora", edited)):
            assert (outputs[name] - wanted).abs().max() < 1e-5 * wanted.abs().max(), name
