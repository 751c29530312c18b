"""Where models come from: folders, single files in two layouts, the hub's cache."""

from __future__ import annotations

import inspect
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from diffusers.loaders import single_file_model, single_file_utils
from families import change_embedded
from safetensors.torch import load_file, save_file
from tiny_flux import HEIGHT, TEXT_LEN, WIDTH, T, config, latents, load, text
from torch import Tensor
from transformers import T5EncoderModel

from byg_train.config import ConfigError, ModelConfig
from byg_train.models import locate
from byg_train.models.frozen import text_encoder
from byg_train.models.picture_files import pixel_multiple, resolve, token_counts

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def test_sizes_before_loading(tiny_base: Path) -> None:
    assert load(tiny_base).multiple == pixel_multiple(config(tiny_base)) == 8
    assert token_counts(config(tiny_base), WIDTH, HEIGHT) == (TEXT_LEN, 6)
    assert token_counts(ModelConfig(path="nobody/nothing"), 512, 768) == (256, 32 * 48)


@pytest.mark.parametrize("layout", ["diffusers", "bfl", "bfl in a checkpoint"])
def test_a_single_file_is_the_folder(
    tiny_base: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(tiny_base / WEIGHTS)
    if layout != "diffusers":
        weights = _bfl(weights)
        _convert_at_width(monkeypatch, tmp_path, 32)
    if layout == "bfl in a checkpoint":
        weights = {f"model.diffusion_model.{k}": v for k, v in weights.items()}
    file = tmp_path / "flux.safetensors"
    save_file(weights, file)
    single = load(file, components=str(tiny_base))
    whole = load(tiny_base)
    v = [b.velocity(latents(1), T, text(2), latents(7), guidance=2.0) for b in (whole, single)]
    assert torch.equal(*v)
    assert single.fingerprint == whole.fingerprint
    assert pixel_multiple(config(file, components=str(tiny_base))) == 8


def _bfl(d: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> Black Forest Labs' (1 double, 2 single blocks)."""
    names = {
        "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
        "time_text_embed.timestep_embedder": "time_in",
        "time_text_embed.text_embedder": "vector_in",
        "time_text_embed.guidance_embedder": "guidance_in", "linear_1": "in_layer",
        "linear_2": "out_layer", "transformer_blocks.0.": "double_blocks.0.",
        "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
        "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
        "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
        "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2",
        "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
        "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
        "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
        "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    }  # fmt: skip
    single = {
        "norm.linear": "modulation.lin", "proj_out": "linear2",
        "attn.norm_q.weight": "norm.query_norm.scale", "attn.norm_k.weight": "norm.key_norm.scale",
    }  # fmt: skip
    d, out = dict(d), {}
    for end in ("weight", "bias"):
        for stream, parts in (("img", "to_{}"), ("txt", "add_{}_proj")):
            qkv = [d.pop(f"transformer_blocks.0.attn.{parts.format(p)}.{end}") for p in "qkv"]
            out[f"double_blocks.0.{stream}_attn.qkv.{end}"] = torch.cat(qkv)
        for i in range(2):
            block = f"single_transformer_blocks.{i}"
            parts = [f"{block}.attn.to_{p}.{end}" for p in "qkv"] + [f"{block}.proj_mlp.{end}"]
            out[f"single_blocks.{i}.linear1.{end}"] = torch.cat([d.pop(p) for p in parts])
        scale, shift = d.pop(f"norm_out.linear.{end}").chunk(2)
        out[f"final_layer.adaLN_modulation.1.{end}"] = torch.cat([shift, scale])
    for name, weight in d.items():
        if name.startswith("single"):
            name, table = name.replace("single_transformer_blocks", "single_blocks"), single
        else:
            table = names
        for old, new in table.items():
            name = name.replace(old, new)
        out[name] = weight
    return out


def _convert_at_width(monkeypatch: pytest.MonkeyPatch, folder: Path, width: int) -> None:
    """diffusers' converter with FLUX.1's hard-coded width of 3072 replaced by the tiny one's."""
    name = "convert_flux_transformer_checkpoint_to_diffusers"
    source = inspect.getsource(getattr(single_file_utils, name))
    assert "inner_dim = 3072" in source
    file = folder / "widened.py"
    file.write_text(source.replace("inner_dim = 3072", f"inner_dim = {width}"), encoding="utf-8")
    spec = spec_from_file_location("widened", file)
    module = module_from_spec(spec)
    vars(module).update((k, v) for k, v in vars(single_file_utils).items() if k[:2] != "__")
    spec.loader.exec_module(module)
    table = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(table, "checkpoint_mapping_fn", getattr(module, name))


def test_a_wrong_single_file_is_named(tiny_base: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_base / WEIGHTS)
    missing = dict(weights)
    missing.pop("x_embedder.weight")
    missing["double_blocks.0.note"] = torch.zeros(1)
    for name, content in (("other", {"conv.weight": torch.zeros(3)}), ("cut", missing)):
        file = tmp_path / f"{name}.safetensors"
        save_file(content, file)
        with pytest.raises(ConfigError, match=rf"{name}\.safetensors .*FLUX transformer"):
            load(file, components=str(tiny_base))
    with pytest.raises(ConfigError, match=r"model\.components"):
        resolve(config(file))
    with pytest.raises(ConfigError, match="lacks vae/config.json, text_encoder/config.json"):
        resolve(config(file, components=str(tiny_base / "transformer")))


def test_a_text_encoder_with_a_hole_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    """transformers would fill it with random numbers, others at every start."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (file,) = (base / "text_encoder_2").glob("*.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if "SelfAttention.q" in name)
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    part = base / "text_encoder_2"
    with pytest.raises(ConfigError, match=rf"text_encoder_2 lacks weights .*{name}.*copy it again"):
        text_encoder(T5EncoderModel, part, torch.float32, torch.device("cpu"))


def test_what_cannot_be_found_is_said_before_loading(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(config(tiny_base)) == tiny_base
    with pytest.raises(ConfigError, match="'/no/such/flux' does not exist"):
        resolve(config(Path("/no/such/flux")))
    with pytest.raises(ConfigError, match=r"lacks .*tokenizer_2/tokenizer_config.json"):
        resolve(config(tmp_path))
    words = shutil.copytree(tiny_base, tmp_path / "words")
    for name in ("tokenizer.json", "spiece.model"):
        (words / "tokenizer_2" / name).unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"lacks tokenizer_2/tokenizer.json"):
        resolve(config(words))
    with pytest.raises(ConfigError, match="hub cannot be reached"):
        resolve(ModelConfig(path="nobody/nothing"))
    (tmp_path / "flux.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"wanted a \.safetensors file"):
        resolve(config(tmp_path / "flux.ckpt"))
    change_embedded(monkeypatch, "flux", folder=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="embedded base"):
        resolve(ModelConfig(path="world"))
    change_embedded(monkeypatch, "flux", folder=tiny_base)
    assert resolve(ModelConfig(path="world")) == tiny_base


def test_a_part_may_lie_in_another_base(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, world = shutil.copytree(tiny_base, tmp_path / "copy"), config(Path("world"))
    change_embedded(monkeypatch, "flux", folder=copy)
    whole = locate.content(world)
    shutil.rmtree(copy / "vae")
    with pytest.raises(ConfigError, match="embedded base"):
        resolve(world)
    change_embedded(monkeypatch, "flux", folder=copy, shared={"vae": tiny_base})
    assert resolve(world) == copy and locate.content(world) == whole
    assert "vae/config.json" in whole
    found, wanted = load(Path("world")), load(tiny_base)
    assert (found.multiple, found.fingerprint) == (8, wanted.fingerprint)
    z = latents(1)
    assert torch.equal(found.decode_latents(z), wanted.decode_latents(z))
    with pytest.raises(ConfigError, match="lacks vae/config.json"):  # a copy shares with nobody
        resolve(config(shutil.copytree(copy, tmp_path / "another")))


def test_shards_and_weights_are_missed_before_loading(tiny_base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    (copy / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match=r"lacks transformer/\*\.safetensors"):
        resolve(config(copy))
    index = '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    (copy / f"{WEIGHTS}.index.json").write_text(index)
    (copy / "transformer/one.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"lacks transformer/two\.safetensors"):
        resolve(config(copy))


def test_the_hubs_cache_goes_first(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--flux"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    shutil.copytree(tiny_base, repository / "snapshots/abc")
    hub = ModelConfig(path="some/flux")
    assert resolve(hub) == repository / "snapshots/abc"
    assert token_counts(hub, WIDTH, HEIGHT) == (256, 6)
    (repository / "snapshots/abc" / WEIGHTS).unlink()  # a download that was cut short
    with pytest.raises(ConfigError, match="no complete local copy"):
        resolve(hub)


@pytest.mark.slow
def test_the_fingerprint_follows_what_is_encoded(tiny_base: Path, tmp_path: Path) -> None:
    first = load(tiny_base).fingerprint
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    weights = load_file(copy / WEIGHTS)
    save_file({k: v + 1 for k, v in weights.items()}, copy / WEIGHTS)
    assert load(copy).fingerprint == first  # another transformer encodes the same
    vae = copy / "vae/diffusion_pytorch_model.safetensors"
    save_file({k: v + 1 for k, v in load_file(vae).items()}, vae)
    others = {load(copy).fingerprint, load(tiny_base, text_len=9).fingerprint}
    others.add(load(tiny_base, dtype="bfloat16").fingerprint)
    assert len(others | {first}) == 4
