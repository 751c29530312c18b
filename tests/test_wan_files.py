"""Where a Wan comes from: folders, ComfyUI's single files and pairs, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_wan import (
    HIGH,
    LOW,
    PARTS,
    WEIGHTS,
    base,
    config,
    latents,
    load,
    original,
    text,
    velocity,
)
from torch import Tensor

from byg_train.config import ConfigError, ModelConfig, build_config
from byg_train.models.backbone import load_backbone
from byg_train.models.networks import network
from byg_train.models.wan.backbone import WanBackbone
from byg_train.models.wan.files import (
    boundary,
    expert_files,
    pixel_multiple,
    resolve,
    token_counts,
)

NAMES = {
    "high": "wan2.2_t2v_high_noise_14B.safetensors",
    "low": "wan2.2_t2v_low_noise_14B.safetensors",
}


def weights_of(expert: str) -> dict[str, Tensor]:
    """One expert of the tiny pair."""
    return load_file(base() / PARTS[expert] / WEIGHTS)


def write_pair(folder: Path, change: object = original) -> Path:
    """Both experts as single files; the path of the high one."""
    for expert, name in NAMES.items():
        save_file(change(weights_of(expert)), folder / name)
    return folder / NAMES["high"]


def copy_of(folder: Path, index: dict[str, object]) -> Path:
    """The tiny pair with another index."""
    shutil.copytree(base(), folder)
    said = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**said, **index}))
    return folder


# ---------------------------------------------------------------- single files


@pytest.mark.parametrize("named", ["high", "low"])
@pytest.mark.parametrize("layout", ["diffusers", "wan", "wan in a checkpoint"])
def test_a_pair_of_single_files_is_the_folder(tmp_path: Path, layout: str, named: str) -> None:
    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = weights if layout == "diffusers" else original(weights)
        prefix = "model.diffusion_model." if "checkpoint" in layout else ""
        return {prefix + name: w for name, w in weights.items()}

    write_pair(tmp_path, change)
    pair, whole = load(tmp_path / NAMES[named], components=str(base())), load(base())
    for t in (HIGH, LOW):
        assert torch.equal(velocity(pair, t), velocity(whole, t))
    assert pair.boundary == whole.boundary == 0.875
    assert pair.fingerprint == whole.fingerprint


@pytest.mark.parametrize("layout", ["folder", "wan2.1_t2v_1.3B_fp16"])
def test_the_small_wan_of_2_1(tmp_path: Path, layout: str) -> None:
    """One network for all times, with the VAE of the large pair: 8 pixels to a latent."""
    chosen = config(base("small"))
    if layout != "folder":
        weights = original(load_file(base("small") / "transformer" / WEIGHTS))
        save_file({n: w.half() for n, w in weights.items()}, tmp_path / f"{layout}.safetensors")
        chosen = config(tmp_path / f"{layout}.safetensors", components=str(base("small")))
    backbone = load_backbone(chosen, "cpu")
    assert list(backbone.experts) == ["transformer"] and boundary(chosen) is None
    assert pixel_multiple(chosen) == backbone.multiple == 16
    assert backbone.spans == {"transformer": (0.0, 1.0)}
    assert (network(chosen).networks, network(chosen).width) == (1, 24)
    whole = load_backbone(config(base("small")), "cpu")
    for t in (HIGH, LOW):  # on either side of where a pair would change places
        v, wanted = (one.velocity(latents(1), t, text(2), latents(7)) for one in (backbone, whole))
        torch.testing.assert_close(v, wanted, atol=2e-2, rtol=0)


def test_a_single_file_of_one_network(tmp_path: Path) -> None:
    file = tmp_path / "wan2.2_ti2v_5B_fp16.safetensors"
    save_file(original(load_file(base("one") / "transformer" / WEIGHTS)), file)
    single = load_backbone(config(file, components=str(base("one"))), "cpu")
    assert isinstance(single, WanBackbone) and list(single.experts) == ["transformer"]
    assert pixel_multiple(single.config) == single.multiple == 32


def test_files_in_half_precision_keep_positions_and_times_in_float32(tmp_path: Path) -> None:
    def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: w.bfloat16() for name, w in original(weights).items()}

    components = str(base())
    pair = load(write_pair(tmp_path, half), components=components, dtype="bfloat16")
    whole = load(base(), dtype="bfloat16")
    kinds = [
        {name: w.dtype for name, w in (*b.experts.named_parameters(), *b.experts.named_buffers())}
        for b in (whole, pair)
    ]
    assert kinds[0] == kinds[1] and set(kinds[0].values()) == {torch.bfloat16, torch.float32}
    assert torch.equal(pair.experts["high"].rope.freqs_sin, whole.experts["high"].rope.freqs_sin)


@pytest.mark.slow
def test_weights_in_the_wanted_type_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of 28 GB none is in memory until it is used."""
    seen = []

    def read(path: Path, device: str = "cpu") -> dict[str, Tensor]:
        found = load_file(path, device)
        seen.append(found)
        return dict(found)

    monkeypatch.setattr("safetensors.torch.load_file", read)

    def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: w.bfloat16() for name, w in original(weights).items()}

    pair = load(write_pair(tmp_path, half), components=str(base()), dtype="bfloat16")
    there = {w.data_ptr() for weights in seen for w in weights.values()}
    low = [w for w in pair.experts.parameters() if w.dtype == torch.bfloat16]
    assert len(low) > 50 and all(w.data_ptr() in there for w in low)


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale", None])
def test_eight_bit_files_are_read_with_their_scales(tmp_path: Path, end: str | None) -> None:
    """ComfyUI's `fp8_scaled`: weight = 8-bit weight x scale, one scale or one per row."""
    rounded = {}

    def eight(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
        for name, w in original(weights).items():
            if w.ndim != 2 or "blocks" not in name:
                found[name] = w
                continue
            rows = ".q." in name
            scale = w.abs().amax(dim=1 if rows else None) / 448 if end else torch.ones(())
            found[name] = (w / scale.view(-1, 1)).to(torch.float8_e4m3fn)
            rounded[name] = found[name].float() * scale.view(-1, 1)
            if end:
                stem = name.removesuffix("weight")
                found[stem + end] = scale
                found[stem + "scale_input"] = torch.ones(())
        return found

    pair = load(write_pair(tmp_path, eight), components=str(base()))
    q = pair.experts["low"].blocks[1].attn2.to_q.weight
    o = pair.experts["low"].blocks[1].attn1.to_out[0].weight
    torch.testing.assert_close(q, rounded["blocks.1.cross_attn.q.weight"])
    torch.testing.assert_close(o, rounded["blocks.1.self_attn.o.weight"])
    v, w = velocity(pair), velocity(load(base()))
    assert 0 < (v - w).norm() / w.norm() < 0.1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("wan2.2_t2v_high_noise_14B_fp8_scaled", "wan2.2_t2v_low_noise_14B_fp8_scaled"),
        ("Wan2_2-T2V-A14B-LOW_fp8_e4m3fn", "Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn"),
        ("wan22-HighNoise", "wan22-LowNoise"),
        ("wan-flow_highway_slow", None),
        ("wan2.1_t2v_14B_fp16", None),
    ],
)
def test_the_other_file_of_a_pair(tmp_path: Path, name: str, other: str | None) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.touch()
    if other is None:
        assert expert_files(path) == {"transformer": path}
        return
    with pytest.raises(ConfigError, match=rf"{other}\.safetensors is not beside it"):
        expert_files(path)
    (tmp_path / f"{other}.safetensors").touch()
    files = expert_files(path)
    assert sorted(p.stem for p in files.values()) == sorted([name, other])
    assert "low" in files["low"].stem.lower() and "high" in files["high"].stem.lower()


# ---------------------------------------------------------------- what is refused


def test_a_wrong_file_is_said(tmp_path: Path) -> None:
    components = str(base())

    def lacking(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v for k, v in original(weights).items() if k != "blocks.1.ffn.2.bias"}

    def strange(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**original(weights), "img_emb.proj.0.weight": torch.zeros(3)}

    def wider(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**original(weights), "patch_embedding.weight": torch.zeros(48, 4, 1, 2, 2)}

    def integers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: w.to(torch.int8) for name, w in original(weights).items()}

    changes = [
        (lacking, "has not all weights of the Wan transformer"),
        (strange, "has more weights of the Wan transformer"),
        (integers, "int8, wanted floating point"),
        (wider, r"is not the Wan transformer .*patch_embedding"),
    ]
    for change, said in changes:
        with pytest.raises(ConfigError, match=said):
            load(write_pair(tmp_path, change), components=components)


def test_components_must_fit_the_files(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    with pytest.raises(ConfigError, match=r"set model\.components"):
        resolve(config(path))
    with pytest.raises(ConfigError, match=r"means 2 network.*describes 1"):
        load(path, components=str(base("one")))
    (tmp_path / "wan.safetensors").write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match=r"means 1 network.*describes 2"):
        load(tmp_path / "wan.safetensors", components=str(base()))
    path.rename(tmp_path / "wan.ckpt")
    with pytest.raises(ConfigError, match=r"wanted a \.safetensors"):
        resolve(config(tmp_path / "wan.ckpt"))


def test_incomplete_folders_are_named(tmp_path: Path) -> None:
    folder = copy_of(tmp_path / "a", {})
    shutil.rmtree(folder / "transformer_2")
    with pytest.raises(ConfigError, match=r"lacks transformer_2/config\.json"):
        resolve(config(folder))
    (folder / "model_index.json").unlink()
    with pytest.raises(ConfigError, match=r"no model_index\.json"):
        resolve(config(folder))
    with pytest.raises(ConfigError, match="no boundary_ratio"):
        load(copy_of(tmp_path / "b", {"boundary_ratio": None}))
    with pytest.raises(ConfigError, match="does not exist"):
        resolve(config(tmp_path / "nothing"))
    shape = copy_of(tmp_path / "c", {}) / "transformer/config.json"
    shape.write_text(shape.read_text().replace('"in_channels": 4', '"in_channels": 9'))
    weights = weights_of("high")
    weights["patch_embedding.weight"] = torch.zeros(24, 9, 1, 2, 2)
    save_file(weights, tmp_path / "c/transformer" / WEIGHTS)
    with pytest.raises(ConfigError, match="takes 9 channels and gives 4: an image-to-video"):
        load(tmp_path / "c")


def test_another_boundary_is_followed(tmp_path: Path) -> None:
    backbone = load(copy_of(tmp_path / "a", {"boundary_ratio": 0.5}))
    assert backbone.spans == {"high": (0.5, 1.0), "low": (0.0, 0.5)}
    assert backbone.expert(torch.tensor([0.6])) == "high"


def test_a_wan_shares_positions_by_its_configuration() -> None:
    with pytest.raises(ConfigError, match="reference_mode"):
        build_config({"model": {"family": "wan", "path": "a/b"}})


# ---------------------------------------------------------------- sizes, without loading


def test_sizes_before_loading() -> None:
    for kind in ("pair", "one"):
        assert load(base(kind)).multiple == pixel_multiple(config(base(kind)))
    assert token_counts(config(base()), 64, 32, 5) == (8, 2 * 2 * 4)
    wan = {"family": "wan", "reference_mode": "shared", "text_len": 512}
    a14b = ModelConfig(path="Wan-AI/Wan2.2-T2V-A14B-Diffusers", **wan)
    small = ModelConfig(path="Wan-AI/Wan2.2-TI2V-5B-Diffusers", **wan)
    # 320 x 576 x 81: 30,240 and 7,560 with the source.
    assert token_counts(a14b, 576, 320, 81) == (512, 30_240 // 2)
    assert token_counts(small, 576, 320, 81) == (512, 7_560 // 2)
