"""The shipped Z-Image base: its files, its words, and what it and its warm-up can do."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
import tiny_z_image
import torch
from diffusers import AutoencoderKL, ZImagePipeline, ZImageTransformer2DModel
from edits import in_float32
from safetensors import safe_open
from safetensors.torch import load_file

from byg_train.config import merge_settings
from byg_train.core.flow import noised
from byg_train.core.losses import velocity_mse
from byg_train.editing.opening import attach, open_lora
from byg_train.evaluate.true_pairs import error
from byg_train.family import WORLD, family_of, part_folder
from byg_train.media.pixels import to_batch
from byg_train.models.backbone import load_backbone
from byg_train.models.z_image.backbone import CHAT
from byg_train.world.judge import PICTURES, Frames, tall
from byg_train.world.names import HELD_OUT, KNOWN
from byg_train.world.report import Methods
from byg_train.world.scenes import EDIT_TYPES, Scene, caption, draw, random_edit, random_scene
from tools.world.show import open_editor, sample, shows_ground, shows_style
from tools.world.shrink import rounded, shrink

SMALL = family_of("z_image").embedded
EDITOR = WORLD / f"{SMALL.preset}.safetensors"
TEXT_LEN = merge_settings(SMALL.preset).model.text_len


def test_files_are_small_and_the_vae_is_the_other_bases() -> None:
    for file in SMALL.folder.rglob("*"):
        assert file.is_dir() or file.suffix in (".json", ".jinja", ".safetensors"), file
    for file in (*SMALL.folder.rglob("*.safetensors"), SMALL.warmup, EDITOR):
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert kinds == {"BF16"} | ({"F8_E4M3"} if file.parent.name == "transformer" else set())
    assert not (SMALL.folder / "vae").exists()
    vae = part_folder(SMALL.folder, "vae")
    assert vae.parent == family_of("flux").embedded.folder and (vae / "config.json").is_file()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrices_in_8_bits_load_as_they_were_rounded(tmp_path: Path, dtype: torch.dtype) -> None:
    base = shutil.copytree(tiny_z_image.base(), tmp_path / "base")
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    before, size = load_file(file), file.stat().st_size
    shrink(base)
    assert file.stat().st_size < 0.4 * size  # of float32
    once = file.read_bytes()
    shrink(base)
    assert file.read_bytes() == once
    kind = {"torch_dtype": dtype, "use_safetensors": True}
    network = ZImageTransformer2DModel.from_pretrained(base / "transformer", **kind)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, rounded(before[name]).to(dtype)), name
    norms = [name for name in before if "norm" in name]
    assert norms and all(rounded(before[name]) is before[name] for name in norms)


def test_diffusers_opens_it_beside_that_vae() -> None:
    vae = AutoencoderKL.from_pretrained(part_folder(SMALL.folder, "vae"))
    pipe = ZImagePipeline.from_pretrained(SMALL.folder, vae=vae)
    pads = (pipe.transformer.x_pad_token, pipe.transformer.cap_pad_token)
    assert all(pad.abs().max() > 0 for pad in pads)  # trained, and not as diffusers starts them
    assert pipe.scheduler.config.shift == 1


def test_every_known_word_is_a_piece_and_no_text_is_cut() -> None:
    from transformers import AutoTokenizer

    rng, tokenizer = random.Random(0), AutoTokenizer.from_pretrained(SMALL.folder / "tokenizer")
    around = family_of("z_image").chat_tokens
    for i in range(400):
        edit = random_edit(rng, EDIT_TYPES[i % len(EDIT_TYPES)], (KNOWN, HELD_OUT)[i % 2])
        for text in (caption(edit.source), edit.instruction, edit.reverse_instruction):
            words = len(tokenizer(CHAT.format(text)).input_ids)
            assert words <= TEXT_LEN
            if i % 2 == 0:
                assert words == around + len(text.split()) + 2 * text.count("3d")  # " ", "3", "d"
    assert len(tokenizer(CHAT.format("")).input_ids) == around


# ---------------------------------------------------------------- what it can do


def test_samples_show_the_asked_ground_and_style() -> None:
    asked = [Scene("butterfly", "ink", "pink", "plain"), Scene("monkey", "3d", "green", "plain")]
    outs = sample(open_editor(SMALL.preset), PICTURES, asked)
    for scene, out in zip(asked, outs, strict=True):
        assert out.shape == PICTURES.drawn(scene).shape
        assert shows_ground(PICTURES, scene, out) and shows_style(PICTURES, scene, out)
        assert not shows_ground(PICTURES, replace(scene, ground="blue"), out)


@pytest.mark.slow
def test_the_shipped_warm_up_copies_held_out_names() -> None:
    model = in_float32(open_lora(SMALL.warmup, None))
    assert (model.info.base, model.info.family) == ("world", "z_image")
    bare = load_backbone(model.base, "cpu")
    bank, rng = attach(model, bare, strength=1.0), random.Random(0)
    x = bare.encode_pixels(to_batch(draw(random_scene(rng, HELD_OUT))[None] for _ in range(8)))
    text = bare.encode_text(["change the background to a blue ground"] * 8)
    g = torch.Generator().manual_seed(0)
    t, eps = torch.rand(8, generator=g), torch.randn(x.shape, generator=g)
    losses = {}
    for role in ("edit", "base"):
        with torch.no_grad(), bank.using(role):
            v = bare.velocity(noised(x, eps, t), t, text, x)
        losses[role] = velocity_mse(v, eps - x).mean().item()
    assert losses["edit"] < 0.5 * losses["base"]


@pytest.mark.slow
def test_the_shipped_editor_edits_held_out_names() -> None:
    ours, rng, label = Methods(EDITOR), random.Random(0), "style ink → 3d"
    edits = [PICTURES.query(rng, label) for _ in range(8)]
    outs = ours.edit(label, edits)
    assert mean(PICTURES.attribute(e, o)[0] for e, o in zip(edits, outs, strict=True)) > 0.7
    left = [apart(o, e.target) for o, e in zip(outs, edits, strict=True)]
    assert mean(left) < 0.75 * mean(apart(PICTURES.drawn(e.source), e.target) for e in edits)


def apart(frames: Frames, scene: Scene) -> float:
    """Distance of a picture from a scene."""
    return error(tall(frames), tall(PICTURES.drawn(scene)))
