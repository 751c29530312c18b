"""LoRA files: read back as written; diffusers and ComfyUI load them with equal outputs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_flux import TEXT_LEN, T, config, latents, load, make_bank, randomise, text, velocity
from torch import Tensor

from byg_train import files
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import LoraInfo, read_lora, write_lora

INFO = LoraInfo(
    base="world", family="flux", reference_mode="index", text_len=TEXT_LEN,
    instructions=["change the ground to größer", "paint it, red; now"],
    reverse_instructions=["undo"], resolution=48, guidance_train=1.0, guidance_prior=None,
    guidance_sample=2.5, sample_steps=20, sample_shift="flux", rank=4, steps=300, weights="edit",
    dataset="12e4", multiple=8,
)  # fmt: skip
# The conftest's tiny network in ComfyUI's words.
COMFY = dict(
    image_model="flux", in_channels=4, out_channels=4, vec_in_dim=24, context_in_dim=24,
    hidden_size=32, mlp_ratio=4.0, num_heads=2, depth=1, depth_single_blocks=2,
    axes_dim=[4, 6, 6], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True,
)  # fmt: skip


def _tensors(seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"a.lora_A": (4, 6), "a.lora_B": (8, 4), "b.c.lora_A": (4, 3), "b.c.lora_B": (5, 4)}
    return {f"{n}.weight": torch.randn(s, generator=g) for n, s in shapes.items()}


def _write(path: Path, tensors: dict[str, Tensor], **changes: object) -> Path:
    plain = {"scale": 1.0, "family": "flux", "metadata": {}}
    write_lora(path, tensors, **{**plain, **changes})
    return path


def _trained(base: Path) -> tuple[FluxBackbone, LoraBank]:
    """A backbone with random A and B at scale 1.5."""
    backbone = load(base)
    bank = make_bank(backbone, alpha=6.0)
    randomise(bank)
    return backbone, bank


# ---------------------------------------------------------------- files


def test_round_trip_in_bf16(tmp_path: Path) -> None:
    tensors = _tensors()
    path = _write(tmp_path / "l.safetensors", tensors, family="wan", metadata={"k": "ä"})
    file = read_lora(path)
    assert file.prefix == "diffusion_model."
    assert file.metadata == {"format": "pt", "k": "ä"}
    assert file.tensors.keys() == tensors.keys()
    for name, tensor in file.tensors.items():
        assert torch.equal(tensor, tensors[name].bfloat16())
    assert set(load_file(path)) == {f"diffusion_model.{name}" for name in tensors}


def test_the_scale_is_baked_into_b(tmp_path: Path) -> None:
    tensors = _tensors()
    path = _write(tmp_path / "l.safetensors", tensors, scale=1.5, dtype=torch.float32)
    for name, tensor in read_lora(path).tensors.items():
        assert torch.equal(tensor, tensors[name] * (1.5 if "lora_B" in name else 1))


def test_a_scaled_lora_starts_a_bank_where_it_left_off(tiny_base: Path, tmp_path: Path) -> None:
    backbone, bank = _trained(tiny_base)
    before = velocity(backbone)
    live = bank.tensors("transformer", "edit")
    path = _write(tmp_path / "l.safetensors", live, scale=bank.scale, dtype=torch.float32)
    again = load(tiny_base)
    second = make_bank(again, alpha=2.0)
    second.load_tensors("transformer", read_lora(path).tensors)
    torch.testing.assert_close(velocity(again), before, rtol=0, atol=1e-5)
    with second.using("ema"):
        torch.testing.assert_close(velocity(again), before, rtol=0, atol=1e-5)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "l.safetensors", _tensors(0))
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _write(path, _tensors(1))
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["l.safetensors"]


def test_what_is_no_lora_is_said(tmp_path: Path) -> None:
    a = {"transformer.a.lora_A.weight": torch.zeros(4, 6)}
    pair = {**a, "transformer.a.lora_B.weight": torch.zeros(8, 4)}
    contents = {
        "half": (a, r"a\.lora_A"),
        "kohya": ({"lora_unet_a.lora_down.weight": torch.zeros(4, 6)}, "lora_down"),
        "alpha": ({**pair, "transformer.b.alpha": torch.tensor(1.0)}, r"b\.alpha"),
        "bare": ({k.removeprefix("transformer."): v for k, v in pair.items()}, "wanted pairs"),
        "empty": ({}, "no tensors"),
    }
    for name, (tensors, message) in contents.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors is no LoRA .*{message}"):
            read_lora(path)
    (tmp_path / "text.safetensors").write_text("not a safetensors file at all")
    with pytest.raises(ValueError, match="no readable safetensors"):
        read_lora(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="does not exist"):
        read_lora(tmp_path / "gone.safetensors")


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize("shift", ["flux", 3.0])
def test_info_round_trip_through_a_file(tmp_path: Path, shift: float | str) -> None:
    info = dataclasses.replace(INFO, sample_shift=shift)
    path = _write(tmp_path / "l.safetensors", _tensors(), metadata=info.to_metadata())
    metadata = read_lora(path).metadata
    assert LoraInfo.from_metadata(metadata) == info
    assert metadata["byg.reference_mode"] == "index"
    assert json.loads(metadata["byg.instructions"]) == info.instructions
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "4"
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert "lora_adapter_metadata" not in metadata


@pytest.mark.parametrize(
    ("base", "name"),
    [("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan2.1"), ("Wan-AI/Wan2.2-TI2V-5B", "wan2.2")],
)
def test_managers_hear_of_the_generation(base: str, name: str) -> None:
    info = dataclasses.replace(INFO, family="wan", reference_mode="shared", base=base)
    metadata = info.to_metadata()
    assert metadata["modelspec.architecture"] == f"{name}/lora"
    assert metadata["ss_base_model_version"] == name


def test_what_is_younger_than_the_first_files_may_be_absent() -> None:
    young = {"components": "/parts", "revision": "refs/pr/1", "expert": "low", "boundary": 0.875}
    young |= {"frames": 81, "fps": 16.0}
    young |= {"sampler": "unipc", "cfg": 4.0, "cfg_low": 3.0, "negative": "dull"}
    info = dataclasses.replace(INFO, **young)
    metadata = info.to_metadata()
    assert LoraInfo.from_metadata(metadata) == info
    old = {k: v for k, v in metadata.items() if k.removeprefix("byg.") not in young}
    assert LoraInfo.from_metadata(old) == dataclasses.replace(INFO, date=info.date)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"byg.version": None}, "not a ByG LoRA: .* ComfyUI's own Load LoRA"),
        ({"byg.text_len": "many"}, "byg.text_len is 'many', wanted int"),
        ({"byg.instructions": "[1]"}, "byg.instructions"),
        ({"byg.guidance_sample": None}, "byg.guidance_sample is 'nothing'"),
        ({"byg.version": "2"}, "newer byg_train"),
        ({"byg.reference_mode": "spiral"}, "newer byg_train"),
        ({"byg.family": "foo"}, "the model family 'foo', which this byg_train does not know"),
        ({"byg.sampler": "foo"}, "byg.sampler 'foo', wanted euler, unipc, renoise"),
        ({"byg.multiple": "0"}, "byg.multiple 0, wanted 1 or more"),
        ({"byg.sample_steps": "-3"}, "byg.sample_steps -3, wanted 1 or more"),
        ({"byg.resolution": "0"}, "byg.resolution 0"),
        ({"byg.sample_shift": "0"}, "byg.sample_shift 0.0, wanted above 0"),
        ({"byg.sample_shift": "nan"}, "byg.sample_shift nan"),
        ({"byg.fps": "nan"}, "byg.fps nan"),
        ({"byg.cfg": "nan"}, "byg.cfg nan, wanted a finite number"),
        ({"byg.guidance_sample": "inf"}, "byg.guidance_sample inf"),
    ],
)
def test_other_metadata_is_refused(changes: dict[str, str | None], message: str) -> None:
    metadata = {**INFO.to_metadata(), **changes}
    with pytest.raises(ValueError, match=message):
        LoraInfo.from_metadata({k: v for k, v in metadata.items() if v is not None})


# ---------------------------------------------------------------- readers we do not write


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_diffusers_loads_it_with_equal_outputs(
    tiny_base: Path, tmp_path: Path, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    ours, bank = _trained(tiny_base)
    live = bank.tensors("transformer", "edit")
    path = _write(
        tmp_path / "l.safetensors", live, scale=bank.scale, dtype=dtype,
        metadata=INFO.to_metadata(),
    )  # fmt: skip
    bank.load_tensors("transformer", read_lora(path).tensors)  # bf16 rounds ours as well
    pipeline = FluxPipeline.from_pretrained(tiny_base)
    theirs = FluxBackbone(config(tiny_base), tiny_base, lambda: pipeline.transformer, "cpu")
    before = velocity(theirs)
    pipeline.load_lora_weights(tmp_path, weight_name=path.name, adapter_name="byg")
    said = [record.getMessage() for record in caplog.records]
    assert [s for s in said if "CLIPTextModel" not in s] == []  # it may hold no text encoder LoRA
    loaded = get_peft_model_state_dict(pipeline.transformer, adapter_name="byg")
    stored = read_lora(path).tensors
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[k].float(), stored[k].float()) for k in stored)
    v, w = velocity(ours), velocity(theirs)
    assert (v - w).abs().max() < 1e-5 * v.abs().max()
    assert (v - before).abs().max() > 0.1


def test_comfyui_loads_it_with_equal_outputs(
    tiny_base: Path, tmp_path: Path, comfyui: Path
) -> None:
    ours, bank = _trained(tiny_base)
    base = tiny_base / "transformer/diffusion_pytorch_model.safetensors"
    live = bank.tensors("transformer", "edit")
    path = _write(
        tmp_path / "lora.safetensors", live, scale=bank.scale, metadata=INFO.to_metadata()
    )
    bank.load_tensors("transformer", read_lora(path).tensors)
    (tmp_path / "job.json").write_text(json.dumps(COMFY))
    (tmp_path / "model.safetensors").write_bytes(base.read_bytes())
    x, source = (latents(seed)[:, :, 0].contiguous() for seed in (1, 7))
    inputs = {"x": x, "source": source, "t": T, "guidance": torch.tensor([2.0, 2.0]), **text(2)}
    save_file(inputs, tmp_path / "inputs.safetensors")
    script = Path(__file__).with_name("comfy_host.py")
    command = [sys.executable, str(script), str(comfyui), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["warnings"] == []
    # q, k, v (and a single block's MLP) are rows of one weight there: 22 modules, 12 weights.
    assert len(live) == 44
    modules = {f"diffusion_model.double_blocks.0.{m}" for s in ("img", "txt") for m in (
        f"{s}_attn.qkv.weight", f"{s}_attn.proj.weight", f"{s}_mlp.0.weight", f"{s}_mlp.2.weight"
    )}  # fmt: skip
    modules |= {
        f"diffusion_model.single_blocks.{i}.linear{n}.weight" for i in range(2) for n in (1, 2)
    }
    assert {k if isinstance(k, str) else k[0] for k in report["patched"]} == modules
    outputs = load_file(tmp_path / "outputs.safetensors")
    with bank.using("base"):
        untouched = velocity(ours)[:, :, 0]
    edited = velocity(ours)[:, :, 0]
    assert (edited - untouched).abs().max() > 0.1
    for found, wanted in ((outputs["base"], untouched), (outputs["lora"], edited)):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
