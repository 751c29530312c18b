"""The Wan workflows in a real ComfyUI, with small random models in place of Wan 2.2's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import wan_loras
from comfy_server import Done, Prompt, Server, server
from safetensors.torch import load_file, save_file
from tiny_wan import folder_of

from byg_train.export import card
from byg_train.models.lora_file import read_info
from byg_train.world import clips
from byg_train.world.clips import motion_error
from byg_train.world.judge import CLIPS, STRAY
from byg_train.world.scenes import Edit
from tools.kits import TINY_CLIP_KIT, WAN_KIT
from tools.prompts import (
    BLUEPRINTS,
    of_class,
    on_tiny_world,
    prompt_of,
    read,
    shipped,
    with_inputs,
    without,
)

LORA, LORA_5B = "pair_high_noise.safetensors", "small.safetensors"
QUICK, QUICK_5B = f"quick_{LORA}", f"quick_{LORA_5B}"  # said to be for four steps
FOUR = {"sampler": "renoise", "sample_steps": 4}
TURBO = "turbo_wan.safetensors"  # by another trainer
# Ten frames of 64 x 48 pixels, 12 per second, with a second of sound.
CLIP, FRAMES, RATE, HERTZ = "clip.mp4", 10, 12, 8000
WINDOWS, OF_FIVE = "WanContextWindowsManual", {"context_length": 5, "context_overlap": 2}
TEXT = "turn video to cartoon style"
WORDS = dict.fromkeys((WAN_KIT.instruction, *WAN_KIT.captions), TEXT) | {WAN_KIT.negative: "snow"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server, with a pair of random LoRAs and a clip."""
    found = server()
    backbone, bank = wan_loras.trained()
    info = replace(wan_loras.INFO, resolution=56, sample_steps=6, text_len=8, frames=9, fps=16.0)
    for expert in backbone.experts:
        path = found.base / "models" / "loras" / "pair.safetensors"
        metadata = replace(info, expert=expert).to_metadata()
        wan_loras.write(bank, expert, path, metadata=metadata)
    weights = load_file(found.base / "models" / "loras" / LORA)
    save_file({k: v * 0.3 for k, v in weights.items()}, path.with_name(TURBO))
    bank = wan_loras.trained("one")[1]
    alone = replace(info, expert=None, boundary=None, multiple=32, fps=24.0, resolution=64)
    path = found.base / "models" / "loras" / LORA_5B
    wan_loras.write(bank, "transformer", path, metadata=alone.to_metadata())
    for name in (LORA, LORA.replace("high", "low"), LORA_5B):
        path = found.base / "models" / "loras" / name
        about = replace(read_info(path), **FOUR).to_metadata()
        save_file(load_file(path), path.with_name(f"quick_{name}"), about)
    _write_clip(found.base / "input" / CLIP)
    return found


def _write_clip(path: Path) -> None:
    """A subject that moves over a ground, with sound."""
    frames = clips.draw(clips.Clip("fox", "3d", "green", "right"))
    frames = np.pad(frames, ((0, FRAMES - len(frames)), (0, 0), (0, 16), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=HERTZ, layout="mono")
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        wave = np.sin(np.arange(HERTZ) * 2 * np.pi * 440 / HERTZ).astype(np.float32)[None]
        sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        sound.sample_rate = HERTZ
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The node that stands for the loaders."""
    folder = folder_of(tmp_path_factory.mktemp("wan") / "base")
    return {"class_type": "TestTinyWan", "inputs": {"folder": str(folder)}}


def _few_steps(prompt: Prompt) -> Prompt:
    steps = (("PrimitiveInt", "value"), ("ByG_ExpertSplit", "steps"), ("KSampler", "steps"))
    for kind, name in steps:
        for node in of_class(prompt, kind):
            if not isinstance(prompt[node]["inputs"][name], list):
                prompt[node]["inputs"][name] = 6
    return prompt


def _source() -> np.ndarray:
    with av.open(str(server().base / "input" / CLIP)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def _is_an_edit(frames: np.ndarray, rate: float) -> None:
    """As many frames of the same size and rate, pictures, and not the source."""
    source = _source()
    assert frames.shape == source.shape and rate == RATE
    assert frames.std() > 5
    assert np.abs(frames.astype(float) - source).mean() > 10
    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 0.1  # it does not stand still


def _sound(path: Path) -> float:
    """Seconds of sound in a file."""
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        return samples / container.streams.audio[0].rate


def test_a_video_edit(host: Server, pair: dict) -> None:
    prompt = shipped("byg_wan22_video_edit", host.get("/object_info"))
    done = _is_a_video_edit(host, _few_steps(on_tiny_world(prompt, LORA, WORDS, pair)))
    (loader,) = of_class(prompt, "ByG_Loader")
    assert done.outputs[loader]["text"][0].count("modules matched") == 2


def test_a_video_edit_with_one_trained_expert(host: Server, pair: dict) -> None:
    """The same graph with one widget changed."""
    prompt = shipped("byg_wan22_video_edit", host.get("/object_info"))
    prompt = _few_steps(on_tiny_world(prompt, LORA, WORDS, pair))
    prompt = with_inputs(prompt, "ByG_Loader", lora_low_name="single expert")
    done = _is_a_video_edit(host, prompt)
    (loader,) = of_class(prompt, "ByG_Loader")
    said = done.outputs[loader]["text"][0]
    assert said.count("modules matched") == 1 and "the other expert has no LoRA" in said


def test_a_video_edit_in_few_steps(host: Server, pair: dict) -> None:
    """Lightning's schedule, of four steps with shift 5, has two for either network."""
    prompt = shipped("byg_wan22_few_steps", host.get("/object_info"))
    prompt = on_tiny_world(prompt, LORA, WORDS, pair)
    prompt = with_inputs(prompt, "LoraLoaderModelOnly", lora_name=TURBO)
    (split,) = of_class(prompt, "ByG_ExpertSplit")
    prompt["step"] = {"class_type": "PreviewAny", "inputs": {"source": [split, 2]}}
    done = _is_a_video_edit(host, prompt)
    assert done.outputs["step"]["text"] == ["2"]


@pytest.mark.parametrize(
    ("base", "lora", "stand_in"),
    [
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", QUICK, "TestTinyWan"),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", QUICK_5B, "TestTinyWan5B"),
    ],
)
def test_an_exported_graph_of_few_steps(
    base: str, lora: str, stand_in: str, host: Server, pair: dict
) -> None:
    """What `byg_train export` writes for a pair, and for one network."""
    info = replace(read_info(host.base / "models" / "loras" / lora), base=base, instructions=[TEXT])
    experts = ("high", "low") if info.boundary else ("",)
    graph = card.workflow(info, "quick", experts)
    prompt = prompt_of(graph, host.get("/object_info"))
    words = {TEXT: TEXT}
    prompt = on_tiny_world(prompt, lora, words, {**pair, "class_type": stand_in})
    done = _is_a_video_edit(host, prompt)
    (few,) = of_class(prompt, "ByG_FewSteps")
    said = done.outputs[few]["text"][0]
    assert said.startswith("4 steps") and "not trained" not in said
    assert ("at low noise" in said) == (info.boundary is not None)


def test_a_film_in_windows(host: Server, pair: dict) -> None:
    """Windows of five frames, two in common, over a clip of ten."""
    prompt = shipped("byg_wan22_long_video", host.get("/object_info"))
    prompt = _few_steps(on_tiny_world(prompt, LORA, WORDS, pair))
    _is_a_video_edit(host, with_inputs(prompt, WINDOWS, **OF_FIVE))


def test_a_film_that_fits_is_sampled_in_one_pass(host: Server, pair: dict) -> None:
    """As shipped, windows of 81 frames change nothing; windows of five frames do.

    Compared are the frames themselves: x264 writes the same ones now and then in another way.
    """
    prompt = shipped("byg_wan22_long_video", host.get("/object_info"))
    prompt = _few_steps(on_tiny_world(prompt, LORA, WORDS, pair))
    finish, _ = prompt[of_class(prompt, "SaveVideo")[0]]["inputs"]["video"]
    prompt = without(prompt, "SaveVideo", "CreateVideo", "ByG_Compare")
    saved = {"images": [finish, 0], "filename_prefix": "frames"}
    prompt["out"] = {"class_type": "SaveImage", "inputs": saved}
    windows = of_class(prompt, WINDOWS)
    assert {prompt[window]["inputs"]["context_length"] for window in windows} == {81}
    graphs = (prompt, _past(prompt, windows), with_inputs(prompt, WINDOWS, **OF_FIVE))
    fits, plain, cut = (np.stack(host.pictures(host.run(g), "out")).astype(float) for g in graphs)
    same, moved = (np.abs(frames - plain).mean() for frames in (fits, cut))
    # One level of 255 in one of a hundred numbers, should products be rounded in another way.
    assert same < 0.01 < 0.1 < moved


def _past(prompt: Prompt, nodes: list[str]) -> Prompt:
    """The same with every model led past some nodes."""

    def source(value: Any) -> Any:
        through = isinstance(value, list) and value[0] in nodes
        return prompt[value[0]]["inputs"]["model"] if through else value

    return {
        name: {**node, "inputs": {key: source(v) for key, v in node["inputs"].items()}}
        for name, node in prompt.items()
    }


def test_a_video_edit_with_the_5b(host: Server, pair: dict) -> None:
    prompt = shipped("byg_wan22_5b_video_edit", host.get("/object_info"))
    small = {**pair, "class_type": "TestTinyWan5B"}
    prompt = _few_steps(on_tiny_world(prompt, LORA_5B, WORDS, small))
    _is_a_video_edit(host, prompt)
    (edit,) = of_class(prompt, "ByG_VideoEdit")
    prompt[edit]["inputs"]["mask"] = ["in", 0]
    size = {"width": 64, "height": 48, "value": 1.0}
    prompt["in"] = {"class_type": "SolidMask", "inputs": size}
    done = host.wait(host.queue(prompt))
    assert done.error.startswith("ValueError: ByG Video Edit: mask: Wan 2.2 5B would give")


def _is_a_video_edit(host: Server, prompt: Prompt) -> Done:
    """Clip, sound and comparison of a graph that saves all three."""
    done = host.run(prompt)
    first, second = of_class(prompt, "SaveVideo")
    _is_an_edit(*host.clip(done, first))
    assert _sound(host.files(done, first)[0]) == pytest.approx(FRAMES / RATE, abs=0.15)
    wipe, rate = host.clip(done, second)
    assert wipe.shape == _source().shape and rate == RATE
    # It begins with the edit and ends with the source.
    assert np.abs(wipe[-1].astype(float) - _source()[-1]).mean() < 8
    return done


def test_a_video_debug(host: Server, pair: dict) -> None:
    prompt = shipped("byg_wan22_debug", host.get("/object_info"))
    prompt = _few_steps(on_tiny_world(prompt, LORA, WORDS, pair))
    done = host.run(prompt)
    (saved,) = of_class(prompt, "SaveVideo")
    _is_an_edit(*host.clip(done, saved))
    (shown,) = of_class(prompt, "PreviewImage")
    (grid,) = host.pictures(done, shown)
    assert grid.shape[1] > 6 * 384 and grid.std() > 20
    (report,) = (done.outputs[node]["text"][0] for node in of_class(prompt, "PreviewAny"))
    assert report.count("LoRA changes the prediction") == report.count("as sharp as") > 2
    assert "NO EFFECT" not in report


def test_the_all_in_one_box(host: Server, pair: dict) -> None:
    (path,) = (path for path in BLUEPRINTS if "Video" in path.name)
    prompt = prompt_of(read(path), host.get("/object_info"))
    prompt = _few_steps(on_tiny_world(prompt, LORA, WORDS, pair))
    (finish,) = of_class(prompt, "ByG_Finish")
    prompt["in"] = {"class_type": "LoadVideo", "inputs": {"file": CLIP}}
    prompt = with_inputs(prompt, "ByG_VideoEdit", video=["in", 0])
    save = {"video": [finish, 1], "filename_prefix": "box", "format": "auto", "codec": "auto"}
    prompt["out"] = {"class_type": "SaveVideo", "inputs": save}
    _is_an_edit(*host.clip(host.run(prompt), "out"))


@pytest.mark.parametrize("name", ["byg_2_tiny_video_edit", "byg_5_tiny_video_few_steps"])
def test_the_tiny_worlds_clips(host: Server, name: str) -> None:
    """As it is opened."""
    prompt = shipped(name, host.get("/object_info"))
    done = host.run(prompt)
    frames, rate = host.clip(done, of_class(prompt, "SaveVideo")[0])
    source = clips.Clip("fox", "ink", "blue", "right")
    target = replace(source, style="3d", tint="red")
    before, truth = (clips.draw(clip) / 255 for clip in (source, target))
    assert frames.shape == before.shape and rate == clips.FPS
    assert frames.std() > 20 and np.abs(frames / 255 - before).mean() > 0.02
    assert TINY_CLIP_KIT.instruction in str(prompt)
    # Nearer to the true counterpart, most of the way to its style, and moving as the source does.
    assert np.abs(frames / 255 - truth).mean() < 0.85 * np.abs(before - truth).mean()
    edit = Edit("style", source, target, TINY_CLIP_KIT.instruction, "")
    assert CLIPS.attribute(edit, (frames / 255).astype(np.float32))[0] > 0.5
    assert motion_error(frames / 255, truth) < STRAY
