"""Manners in a real server: cancelling, unloading, running again, a queue; and the same picture as
`byg_train edit` and as a graph of stock nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from comfy_server import Server, server
from edits import edit_picture, in_float32
from graphs import INFO, INSTRUCTION, SEED
from PIL import Image
from world_lora import trained, write

from byg_train.editing.opening import open_lora
from byg_train.export import card
from byg_train.world import scenes
from tools.prompts import (
    Prompt,
    of_class,
    on_tiny_world,
    prompt_of,
    shipped,
    tiny_world,
    with_inputs,
)

LORA, FOUR_STEPS = "server.safetensors", "server_four_steps.safetensors"
SOURCE = scenes.Scene("fox", "3d", "green", "plain")


@pytest.fixture(scope="module")
def host() -> Iterator[Server]:
    """The server with a random LoRA and a picture."""
    found = server()
    write(trained()[1], "server", folder=found.base / "models" / "loras")
    Image.fromarray(scenes.draw(SOURCE)).save(found.base / "input" / "fox.png")
    yield found
    assert found.process.poll() is None, found.log()[-3000:]


def _edit(host: Server, seed: int = SEED, steps: int = INFO.sample_steps) -> Prompt:
    """The shipped graph of a tiny picture, with the random LoRA on the picture."""
    prompt = shipped("byg_1_tiny_image_edit", host.get("/object_info"))
    prompt = with_inputs(prompt, "KSampler", seed=seed, steps=steps)
    prompt = with_inputs(prompt, "ByG_Loader", lora_name=LORA)
    prompt = with_inputs(prompt, "CLIPTextEncode", text=INSTRUCTION)
    prompt["in"] = {"class_type": "LoadImage", "inputs": {"image": "fox.png"}}
    return with_inputs(prompt, "ByG_ImageEdit", image=["in", 0])


def _picture(host: Server, prompt: Prompt) -> np.ndarray:
    (node,) = of_class(prompt, "SaveImage")
    return host.pictures(host.run(prompt), node)[0]


# ---------------------------------------------------------------- manners


def test_twice_is_the_same_picture(host: Server) -> None:
    prompt = _edit(host)
    first = _picture(host, prompt)
    assert set(host.run(prompt).cached) == prompt.keys()  # nothing changed, nothing runs
    host.forget()
    again = host.run(prompt)
    (node,) = of_class(prompt, "SaveImage")
    assert again.cached == () and np.array_equal(host.pictures(again, node)[0], first)


def test_a_queue_of_five(host: Server) -> None:
    prompts = [_edit(host, seed) for seed in range(5)]
    (node,) = of_class(prompts[0], "SaveImage")
    numbers = [host.queue(prompt) for prompt in prompts]
    queued = [host.pictures(host.wait(number), node)[0] for number in numbers]
    assert len({picture.tobytes() for picture in queued}) == 5
    host.forget()
    for prompt, picture in zip(reversed(prompts), reversed(queued), strict=True):
        assert np.array_equal(_picture(host, prompt), picture)


@pytest.mark.parametrize("name", ["byg_1_tiny_image_edit", "byg_3_tiny_debug"])
def test_cancel_stops_without_an_error(host: Server, name: str) -> None:
    prompt = shipped(name, host.get("/object_info"))
    for kind in ("KSampler", "BasicScheduler"):
        prompt = with_inputs(prompt, kind, steps=10_000)
    before, number = len(host.log()), host.queue(prompt)
    while "/10000" not in host.log()[before:]:  # the sampler's progress
        time.sleep(0.05)
        assert number not in host.get(f"/history/{number}")
    assert host.post("/interrupt", {}).ok
    done = host.wait(number)
    assert done.error == "interrupted" and not of_saved(prompt, done.outputs)
    assert "Traceback" not in host.log()[before:]
    _picture(host, _edit(host))  # and the next one runs


def of_saved(prompt: Prompt, outputs: dict) -> set[str]:
    """Nodes that saved something."""
    return set(of_class(prompt, "SaveImage")) & outputs.keys()


def test_a_refusal_reaches_the_artist(host: Server) -> None:
    """The message of a node is what the dialog shows."""
    prompt = with_inputs(_edit(host), "ByG_ImageEdit", size_mode="exact size", width=50)
    done = host.wait(host.queue(prompt))
    assert done.error.startswith("ValueError: ByG Image Edit: width x height: 50 x")


# ---------------------------------------------------------------- the same picture elsewhere


def test_edit_draws_the_same(host: Server) -> None:
    lora = host.base / "models" / "loras" / LORA
    photo = Image.open(host.base / "input" / "fox.png").convert("RGB")
    model = in_float32(open_lora(lora, None))
    (wanted,) = edit_picture(model, photo, INSTRUCTION, seeds=[SEED])
    found = _picture(host, _edit(host)).astype(int)
    assert np.abs(found - np.asarray(wanted, int)).max() <= 1
    assert np.abs(found - np.asarray(photo, int)).mean() > 5


def test_the_exported_workflow_of_stock_nodes_draws_the_same(host: Server) -> None:
    """What `byg_train export` puts beside a LoRA, with the tiny world for FLUX.1-dev."""
    info = replace(INFO, base="black-forest-labs/FLUX.1-dev")
    workflow = card.workflow(info, LORA.removesuffix(".safetensors"))
    prompt = prompt_of(workflow, host.get("/object_info"))
    prompt = on_tiny_world(prompt, LORA, {INSTRUCTION: INSTRUCTION}, tiny_world("picture"))
    prompt = with_inputs(prompt, "LoadImage", image="fox.png")
    stock = _picture(host, with_inputs(prompt, "KSampler", seed=SEED)).astype(int)
    ours = _picture(host, _edit(host)).astype(int)
    assert np.abs(stock - ours).max() <= 1


def test_edit_and_the_exported_workflow_of_few_steps_draw_the_same(host: Server) -> None:
    """What `byg_train export` puts beside a LoRA of four steps for the tiny world."""
    lora = host.base / "models" / "loras" / FOUR_STEPS
    info = replace(INFO, sampler="renoise", sample_steps=4)
    write(trained()[1], lora.stem, info, folder=lora.parent)
    photo = Image.open(host.base / "input" / "fox.png").convert("RGB")
    (wanted,) = edit_picture(in_float32(open_lora(lora, None)), photo, INSTRUCTION, seeds=[SEED])

    prompt = prompt_of(card.workflow(info, lora.stem), host.get("/object_info"))
    prompt["in"] = {"class_type": "LoadImage", "inputs": {"image": "fox.png"}}
    prompt = with_inputs(prompt, "ByG_ImageEdit", image=["in", 0])
    found = _picture(host, with_inputs(prompt, "ByG_FewSteps", noise_seed=SEED)).astype(int)
    assert np.abs(found - np.asarray(wanted, int)).max() <= 1
    assert np.abs(found - np.asarray(photo, int)).mean() > 5
