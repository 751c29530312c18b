"""The Z-Image workflows in a real ComfyUI, with a small random model in place of Z-Image."""

from __future__ import annotations

import fetch_host
import numpy as np
import pytest
import z_image_loras
from comfy_host import since
from comfy_server import Done, Server, server
from host_z_image import base
from PIL import Image
from z_image_loras import TEXT

from tools.kits import Z_IMAGE_KIT
from tools.prompts import Prompt, of_class, on_tiny_world, shipped, with_inputs

pytestmark = [pytest.mark.host, pytest.mark.slow]
LORA = "z_image.safetensors"
NAMES = ("edit", "mask_edit", "folder_style", "debug", "turbo_edit")
SIZE = (60, 40)
WORDS = {Z_IMAGE_KIT.instruction: TEXT} | dict.fromkeys(Z_IMAGE_KIT.captions, "a red thing")


def _noise() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def host() -> Server:
    """The server, with a random LoRA and pictures."""
    found = server()
    z_image_loras.write(found.base / "models" / "loras" / LORA)
    folder = found.base / "input" / "two"
    folder.mkdir(exist_ok=True)
    for path in (folder / "0.png", folder / "1.png", found.base / "input" / "noise.png"):
        _masked().save(path)
    return found


def _masked() -> Image.Image:
    """The source, its left half transparent: the mask of Load Image."""
    picture = Image.fromarray(_noise())
    alpha = np.full(SIZE[::-1], 255, np.uint8)
    alpha[:, : SIZE[0] // 2] = 0
    picture.putalpha(Image.fromarray(alpha))
    return picture


def _prompt(host: Server, name: str) -> Prompt:
    loader = {"class_type": "TestTinyZImage", "inputs": {"folder": str(base())}}
    found = on_tiny_world(
        shipped(f"byg_z_image_{name}", host.get("/object_info")), LORA, WORDS, loader
    )
    for kind in ("KSampler", "BasicScheduler"):
        found = with_inputs(found, kind, steps=4)
    found = with_inputs(found, "LoadImage", image="noise.png")
    return with_inputs(found, "LoadImageDataSetFromFolder", folder="two")


def _saved(host: Server, prompt: Prompt, done: Done) -> list[np.ndarray]:
    return [p for node in of_class(prompt, "SaveImage") for p in host.pictures(done, node)]


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_edits(name: str, host: Server) -> None:
    since("0.11.0", "sources of Z-Image")
    prompt, source = _prompt(host, name), _noise()
    done = host.run(prompt)
    pictures = _saved(host, prompt, done)
    assert len(pictures) == (2 if name == "folder_style" else 1)
    for picture in pictures:
        assert picture.shape == source.shape and picture.std() > 5
        changed = np.abs(picture.astype(float) - source)
        assert changed[:, : SIZE[0] // 2].mean() > 5
        if name == "mask_edit":
            assert changed[:, SIZE[0] // 2 :].max() == 0
    (loader,) = of_class(prompt, "ByG_Loader")
    if loader not in done.cached:
        assert "14 of 14 modules matched" in done.outputs[loader]["text"][0]
    if name == "debug":
        (report,) = (done.outputs[node]["text"][0] for node in of_class(prompt, "PreviewAny"))
        assert report.count("edit direction") >= 3


def test_an_older_comfyui_is_told(host: Server) -> None:
    since("0.3.75", "Z-Image")
    if fetch_host.version() >= (0, 11):
        pytest.skip("this ComfyUI shows Z-Image its source")
    done = host.wait(host.queue(_prompt(host, "edit")))
    assert "update it to 0.11.0" in done.error
