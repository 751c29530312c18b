"""CLIP, DINO and VGG: tiny random ones through the code that loads the real ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPModel, ViTModel

from byg_train.evaluate.metrics.clip_direction import clip_direction
from byg_train.evaluate.metrics.dino import dino_similarity
from byg_train.evaluate.metrics.lpips import Vgg16, load_heads, load_vgg, lpips
from byg_train.evaluate.networks import (
    CLIP_NORM,
    IMAGENET_NORM,
    ClipEncoders,
    as_clip_resizes,
    as_vbench_resizes,
    centre_crop,
    load_dino,
    normalised,
)
from byg_train.family import WORLD as EMBEDDED_WORLD

WORLD = EMBEDDED_WORLD / "base"
CAPTIONS = ["a red thing", "a blue thing on the grass"]


def frames(n: int = 3, height: int = 40, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth random pictures (n, height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 5, 8, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(f).resize((width, height), 3)) for f in coarse])


def test_clip_sees_and_reads_as_transformers_does(clip_folder: Path) -> None:
    ours, theirs = ClipEncoders(str(clip_folder)), CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    pixels = normalised(centre_crop(as_clip_resizes(frames(), 32), 32), CLIP_NORM)
    assert pixels.shape == (3, 3, 32, 32)
    tokens = tokenizer(CAPTIONS, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        both = theirs(pixel_values=pixels, **tokens)
    seen, read = ours.pictures(frames()), ours.texts(CAPTIONS)
    for mine, wanted in ((seen, both.image_embeds), (read, both.text_embeds)):
        unit = mine / np.linalg.norm(mine, axis=-1, keepdims=True)  # theirs are normalised
        assert unit == pytest.approx(wanted.numpy(), abs=1e-5)
    assert np.std(seen, axis=0).max() > 1e-3  # the pictures do not all look alike to it


def test_long_captions_are_cut(clip_folder: Path) -> None:
    clip = ClipEncoders(str(clip_folder))
    long = "a red thing " * 40
    assert clip.texts([long]) == pytest.approx(clip.texts([long + "and more"]))


def test_pictures_come_in_batches(clip_folder: Path) -> None:
    clip, many = ClipEncoders(str(clip_folder)), frames(35)
    one_by_one = np.concatenate([clip.pictures(frame[None]) for frame in many])
    assert clip.pictures(many) == pytest.approx(one_by_one, abs=1e-4)


def test_clip_direction_end_to_end(clip_folder: Path) -> None:
    clip = ClipEncoders(str(clip_folder))
    source, edited = clip.pictures(frames()), clip.pictures(frames(seed=1))
    there = clip_direction(source, edited, *clip.texts(CAPTIONS))
    back = clip_direction(edited, source, *clip.texts(CAPTIONS))
    assert there == pytest.approx(-back)
    assert abs(there) > 1e-3
    assert math.isnan(clip_direction(source, edited, *clip.texts([CAPTIONS[0]] * 2)))


def test_the_aesthetic_sees_other_pixels(clip_folder: Path) -> None:
    clip = ClipEncoders(str(clip_folder))
    fine = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    assert not np.allclose(clip.pictures(fine), clip.pictures_vbench(fine), atol=1e-2)


def test_dino_takes_the_class_token_of_the_whole_frame(dino_folder: Path) -> None:
    embed, model = load_dino(str(dino_folder)), ViTModel.from_pretrained(dino_folder).eval()
    found = embed(frames(2))
    pixels = as_vbench_resizes(frames(2), 224, "bilinear")
    assert pixels.shape == (2, 3, 224, 358)  # uncropped: 40 x 64
    with torch.no_grad():
        wanted = model(normalised(pixels, IMAGENET_NORM), interpolate_pos_encoding=True)
    assert found == pytest.approx(wanted.last_hidden_state[:, 0].numpy(), abs=1e-4)
    assert dino_similarity(found, found) == pytest.approx(1)
    assert dino_similarity(found, embed(frames(2, seed=1))) < 0.999


def test_resizing() -> None:
    """Exact where it is known: no change at the own size, flat stays flat, ranges."""
    own = frames(1, 32, 48)
    as_floats = torch.from_numpy(own).permute(0, 3, 1, 2) / 255
    assert torch.equal(as_clip_resizes(own, 32), as_floats)
    assert torch.allclose(as_vbench_resizes(own, 32, "bicubic"), as_floats, atol=1e-6)
    flat = np.full((1, 99, 57, 3), 100, np.uint8)
    for pixels in (as_clip_resizes(flat, 32), as_vbench_resizes(flat, 32, "bicubic")):
        assert pixels.shape == (1, 3, 55, 32)
        assert torch.allclose(pixels, torch.tensor(100 / 255), atol=1e-6)
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None]
    checks = np.repeat(checks, 3, -1)
    assert as_clip_resizes(checks, 16).std() < 0.01  # antialiased: a grey
    assert as_vbench_resizes(checks, 16, "bilinear").std() < 0.01  # halves cancel exactly
    assert centre_crop(torch.arange(7.0).expand(1, 3, 7, 7), 3)[0, 0, 0].tolist() == [2, 3, 4]


# ---------------------------------------------------------------- LPIPS


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Vgg16:
    """Random weights through a file as the hub has it, with a classifier that is not needed."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("vgg") / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in Vgg16().state_dict().items()}
    save_file({**weights, "head.fc.weight": torch.zeros(2, 2)}, file)
    return load_vgg(file)


def test_vgg_is_vgg16(vgg: Vgg16) -> None:
    shapes = [f.shape[1:] for f in vgg(torch.zeros(1, 3, 48, 32))]
    assert shapes == [(64, 48, 32), (128, 24, 16), (256, 12, 8), (512, 6, 4), (512, 3, 2)]
    # The published number of parameters of VGG-16 without its three dense layers.
    assert sum(p.numel() for p in vgg.parameters()) == 14_714_688
    names = ["features.0.weight", "features.2.weight", "features.5.weight", "features.28.bias"]
    assert set(names) <= vgg.state_dict().keys()  # torchvision's names


def test_lpips_by_hand() -> None:
    """Two layers that are known: pixels themselves, and their mean."""

    def trunk(pixels: torch.Tensor) -> list[torch.Tensor]:
        return [pixels, pixels.mean((2, 3), keepdim=True)]

    def flat(*rgb: int) -> np.ndarray:
        return np.broadcast_to(np.array(rgb, np.uint8), (2, 4, 5, 3)).copy()

    # In [-1, 1]: (1, -1, -1) and (1, 1, -1), at length sqrt(3); they differ in the second channel.
    heads = [torch.tensor([9.0, 0.5, 9.0]), torch.tensor([0.0, 2.0, 0.0])]
    found = lpips(flat(255, 0, 0), flat(255, 255, 0), trunk, heads)
    assert found == pytest.approx((0.5 + 2) * (2 / math.sqrt(3)) ** 2, rel=1e-6)


@pytest.mark.slow
def test_lpips_of_equal_clips_is_0_and_grows(vgg: Vgg16) -> None:
    heads, target = load_heads(), frames(2)
    assert [len(w) for w in heads] == [64, 128, 256, 512, 512]
    assert all(w.min() >= 0 for w in heads)
    other = frames(2, seed=1)
    mixed = [(target * (1 - s) + other * s).astype(np.uint8) for s in (0.1, 0.4, 1.0)]
    found = [lpips(m, target, vgg, heads) for m in (target, *mixed)]
    assert found[0] == 0
    assert found == sorted(found)
    assert lpips(target, other, vgg, heads) == pytest.approx(lpips(other, target, vgg, heads))
    with pytest.raises(ValueError, match="the result is"):
        lpips(target[:1], target, vgg, heads)
