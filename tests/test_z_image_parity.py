"""Z-Image is one function here and in stock ComfyUI: with a source and without, to 1e-4."""

from __future__ import annotations

from functools import cache

import graphs_z_image
import pytest
import tiny_z_image
import torch
from comfy_host import in_host, since
from host_z_image import base
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from z_image_cases import CASES, GOLDEN

from byg_train.models.z_image.backbone import ZImageBackbone

CLOSE = 1e-4  # of the norm; float32 computes to some 4e-6 on both sides
Inputs = dict[str, Tensor]


@cache
def backbone() -> ZImageBackbone:
    return tiny_z_image.load(base())


def velocity(inputs: Inputs) -> Tensor:
    words = inputs["words"]
    lengths = torch.full((len(words),), words.shape[1])
    text = {"prompt_embeds": words, "lengths": lengths}
    with torch.no_grad():
        return backbone().velocity(inputs["x_t"], inputs["t"], text, inputs.get("source"))


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def golden(name: str) -> tuple[Inputs, Tensor]:
    """The inputs of a case, and what ComfyUI made of them."""
    inputs = {key: load_file(GOLDEN)[f"{name}/{key}"] for key in CASES[name].inputs(0)}
    return inputs, load_file(GOLDEN)[f"{name}/v"]


@pytest.mark.parametrize("name", CASES)
def test_velocity_is_what_a_later_comfyui_computed(name: str) -> None:
    inputs, wanted = golden(name)
    assert apart(velocity(inputs), wanted) < CLOSE


def test_the_file_says_where_it_comes_from() -> None:
    with safe_open(GOLDEN, "pt") as file:
        assert tuple(map(int, file.metadata()["comfyui"].split("."))) >= (0, 11)
    assert GOLDEN.stat().st_size < 200_000


@pytest.mark.host
@pytest.mark.parametrize("name", CASES)
def test_velocity_is_what_this_comfyui_computes(name: str) -> None:
    if CASES[name].source is not None:
        since("0.11.0", "sources of Z-Image")
    since("0.3.75", "Z-Image")
    inputs = CASES[name].inputs(seed=100)
    found = in_host(graphs_z_image.velocity, str(base()), *inputs.values())
    assert apart(velocity(inputs), found) < CLOSE
    assert apart(velocity(CASES[name].inputs(seed=101)), found) > 0.5


# ---------------------------------------------------------------- other functions


def untouched() -> torch.nn.Module:
    """diffusers' transformer as it comes."""
    kind = type(backbone().experts["transformer"])
    return kind.from_pretrained(base(), subfolder="transformer").eval()


def omni(network: torch.nn.Module, inputs: Inputs, source_time: int = 0) -> Tensor:
    """diffusers' omni mode with 32 empty words for the source."""
    nothing, images = torch.zeros(32, inputs["words"].shape[-1]), []
    for x, y in zip(inputs["x_t"], inputs["source"], strict=True):
        images.append([y, x])
    with torch.no_grad():
        out = network(
            images, 1 - inputs["t"], [[nothing, words] for words in inputs["words"]],
            siglip_feats=[None] * len(images), image_noise_mask=[[source_time, 1]] * len(images),
            return_dict=False,
        )[0]  # fmt: skip
    return -torch.stack(out)


def two_frames(inputs: Inputs) -> Tensor:
    """The basic mode, with the source for a second frame."""
    clips = list(torch.cat([inputs["x_t"], inputs["source"]], dim=2))
    with torch.no_grad():
        out = untouched()(clips, 1 - inputs["t"], list(inputs["words"]), return_dict=False)[0]
    return -torch.stack(out)[:, :, :1]


OTHERS = {
    "diffusers' omni mode": lambda inputs: omni(untouched(), inputs),
    "a source that is called noisy": lambda inputs: omni(
        backbone().experts["transformer"], inputs, source_time=1
    ),
    "two frames": two_frames,
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_functions_are_told_apart(other: str) -> None:
    inputs, wanted = golden("source, few words")
    assert apart(OTHERS[other](inputs), wanted) > 100 * CLOSE
