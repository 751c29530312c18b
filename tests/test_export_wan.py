"""What `export` packs of a run on clips: both files, a film, a card, a workflow of ByG's nodes."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import clip_files
import pytest
import tiny_wan
import torch
from comfy_server import Server
from exports import export
from families import change_embedded
from PIL import Image
from safetensors.torch import save_file
from wan_edits import INFO, NEGATIVE, TEXT, write_pair

from byg_train.config import build_config
from byg_train.editing.opening import open_lora
from byg_train.export import run as export_module
from byg_train.export.card import card, has_workflow, workflow
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.training.checkpoint import save_checkpoint
from byg_train.training.run_folder import write_config
from tools.prompts import prompt_of

BOTH = ("high", "low")
TI2V = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
A14B = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
WAN = replace(
    INFO,
    base=A14B,
    instructions=["Turn the video to photo-realistic style", "Turn the video to cartoon style"],
    resolution=429,
    sample_steps=40,
    sample_shift=12.0,
    rank=64,
    steps=750,
    frames=81,
    cfg=4.0,
    cfg_low=3.5,
    expert="high",
    boundary=0.875,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder as the trainer leaves it: files of steps 5 and 9, checkpoints, samples."""
    folder = tmp_path / "toon"
    (folder / "samples").mkdir(parents=True)
    model = {
        "family": "wan", "path": str(tiny_wan.base()), "reference_mode": "shared",
        "text_len": tiny_wan.TEXT_LEN,
    }  # fmt: skip
    tables = {"model": model, "data": {"path": str(tmp_path), "frames": 5}}
    tables |= {"guidance": {"train": None, "prior": None, "sample": None}}
    tables |= {"lora": {"rank": 4, "alpha": 8.0}}
    write_config(folder, build_config(tables))
    write_pair(folder, steps=9)
    for path in folder.glob("*_noise.safetensors"):
        number = path.stem.replace("toon", "toon-000005")
        old = read_lora(path)
        tensors = {f"{old.prefix}{k}": v / 2 for k, v in old.tensors.items()}
        metadata = {**old.metadata, "byg.steps": "5"}
        save_file(tensors, folder / f"{number}.safetensors", {**metadata, "format": "pt"})
    state = {
        f"{role}.{expert}.blocks.0.attn1.to_q.lora_{x}.weight": torch.full((4, 4), value)
        for role, value in (("edit", 1.0), ("ema", 2.0))
        for expert in ("high", "low")
        for x in "AB"
    }
    save_checkpoint(folder / "checkpoints" / "step-000009", {"lora": state}, {})
    for step in (5, 9, 12):
        Image.new("RGB", (8, 8), (step, 0, 0)).save(folder / "samples" / f"step-{step:06d}.png")
        clip_files.write(folder / "samples" / f"step-{step:06d}.mp4", clip_files.drawn(step))
    return folder


def length(film: Path) -> int:
    with av.open(str(film)) as clip:
        return clip.streams.video[0].frames


@pytest.mark.parametrize("step", [5, 9])
def test_both_files_with_all_that_goes_with_them(run: Path, step: int, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = export(run, "--output", output, "--name", "ink", "--step", step)
    assert result.exit_code == 0, result.output
    # No workflow: no node loads a base of a folder in diffusers' layout.
    names = {"ink_high_noise.safetensors", "ink_low_noise.safetensors", "ink.png", "ink.mp4"}
    assert {p.name for p in output.iterdir()} == names | {"README.md"}
    stem = "toon" if step == 9 else "toon-000005"
    for expert in ("high", "low"):
        found = read_lora(output / f"ink_{expert}_noise.safetensors")
        wanted = read_lora(run / f"{stem}_{expert}_noise.safetensors")
        assert found.tensors.keys() == wanted.tensors.keys()
        for name, tensor in wanted.tensors.items():
            assert torch.equal(found.tensors[name], tensor.bfloat16()), name
        info = LoraInfo.from_metadata(found.metadata)
        assert (info.expert, info.boundary, info.steps) == (expert, tiny_wan.BOUNDARY, step)
        assert info.base == "pair"  # and not where on this disk it is
    assert length(output / "ink.mp4") == step
    with Image.open(output / "ink.png") as strip:
        assert strip.getpixel((0, 0)) == (step, 0, 0)
    text = (output / "README.md").read_text()
    assert "(ink.png)" in text and "(ink.mp4)" in text


def test_an_export_edits(run: Path, tmp_path: Path) -> None:
    """The pair that comes out is one that goes in."""
    export(run, "--output", tmp_path / "out")
    model = open_lora(tmp_path / "out" / "toon_high_noise.safetensors", str(tiny_wan.base()))
    assert model.files.keys() == {"high", "low"}


@pytest.mark.parametrize(("weights", "value"), [("live", 1.0), ("ema", 2.0)])
@pytest.mark.parametrize("with_files", [True, False])
def test_a_checkpoint_becomes_two_files(
    run: Path,
    weights: str,
    value: float,
    with_files: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With alpha / rank = 2 baked into B, and where the experts meet from the base itself."""
    for path in run.glob("toon_*" if with_files else "*.safetensors"):
        path.unlink()  # those of step 9
    item = SimpleNamespace(edit_type="style", instruction=TEXT, reverse_instruction="back")
    data = SimpleNamespace(train=[item], fingerprint="abc")
    monkeypatch.setattr(export_module, "load_items", lambda *_: data)
    result = export(run, "--output", tmp_path / "out", "--weights", weights)
    assert result.exit_code == 0, result.output
    for expert in ("high", "low"):
        file = read_lora(tmp_path / "out" / f"toon_{expert}_noise.safetensors")
        assert file.prefix == "diffusion_model."
        a, b = (file.tensors[f"blocks.0.self_attn.q.lora_{x}.weight"] for x in "AB")
        assert (a == value).all() and (b == 2 * value).all()
        info = LoraInfo.from_metadata(file.metadata)
        assert (info.expert, info.boundary) == (expert, tiny_wan.BOUNDARY)
        assert (info.steps, info.instructions) == (9, [TEXT])
        assert info.weights == ("edit" if weights == "live" else "ema")


def test_of_one_expert_there_is_one_file(run: Path, tmp_path: Path) -> None:
    for path in run.glob("*_low_noise.safetensors"):
        path.unlink()
    result = export(run, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "out").glob("*.safetensors")] == [
        "toon_high_noise.safetensors"
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "--single-expert" in text and "low_noise" not in text


def test_exporting_again_replaces_the_export_alone(run: Path, tmp_path: Path) -> None:
    for step in (5, 9):
        assert export(run, "--output", tmp_path / "out", "--step", step).exit_code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    assert "not empty" in export(run, "--output", tmp_path / "other").stderr


# ---------------------------------------------------------------- the workflow


def titled(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node.get("title") or node["type"]: node for node in graph["nodes"]}


def test_the_graph_has_the_loras_settings(host: Server) -> None:
    """In a real ComfyUI's own names of nodes and widgets."""
    prompt = prompt_of(workflow(WAN, "ink", BOTH), host.get("/object_info"))
    found: dict[str, list[dict[str, Any]]] = {}
    for node in prompt.values():
        found.setdefault(node["class_type"], []).append(node["inputs"])
    (loader,) = found["ByG_Loader"]
    assert (loader["lora_name"], loader["strength"]) == ("ink_high_noise.safetensors", 1.0)
    assert loader["lora_low_name"] == "auto pair"
    yes, no = found["CLIPTextEncode"]
    assert (yes["text"], no["text"]) == (WAN.instructions[0], WAN.negative)
    (edit,) = found["ByG_VideoEdit"]
    assert (edit["size_mode"], edit["fps"], edit["length"]) == ("as trained", 16.0, 81)
    (split,) = found["ByG_ExpertSplit"]
    assert (split["boundary"], split["shift"]) == (0.875, 0.0)  # 0: the one that Loader set
    assert split["sampler_name"] == "uni_pc"  # the samplers' own
    assert found["PrimitiveInt"][0]["value"] == 40
    high, low = found["KSamplerAdvanced"]
    assert (high["cfg"], low["cfg"]) == (4.0, 3.5)
    assert high["sampler_name"] == low["sampler_name"] == "uni_pc"
    assert (high["add_noise"], low["add_noise"]) == ("enable", "disable")
    assert all(node["filename_prefix"].startswith("ByG/ink") for node in found["SaveVideo"])


def test_the_graph_of_the_embedded_pair(host: Server) -> None:
    """The pack's own example, with this LoRA's files, instruction and settings in it."""
    info = replace(WAN, base="world", fps=8.0, sample_steps=12, sampler="euler", cfg=2.0)
    graph = workflow(info, "ink", BOTH)
    prompt = prompt_of(graph, host.get("/object_info"))
    found = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert found["ByG_TinyWorld"]["media"] == "clip" and "UNETLoader" not in found
    loader = found["ByG_Loader"]
    assert loader["lora_name"] == "ink_high_noise.safetensors"
    assert loader["lora_low_name"] == "auto pair"
    assert found["ByG_VideoEdit"]["fps"] == 8.0 and found["PrimitiveInt"]["value"] == 12
    samplers = [n["inputs"] for n in prompt.values() if n["class_type"] == "KSamplerAdvanced"]
    assert {(n["cfg"], n["sampler_name"]) for n in samplers} == {(2.0, "euler"), (3.5, "euler")}
    assert found["ByG_ExpertSplit"]["sampler_name"] == "euler"
    assert WAN.instructions[0] in titled(graph)["Instruction"]["widgets_values"]
    films = [n["inputs"] for n in prompt.values() if n["class_type"] == "SaveVideo"]
    assert all(film["filename_prefix"].startswith("ByG/ink") for film in films)
    (text,) = titled(graph)["Note"]["widgets_values"]
    assert "small base that ships with ByG" in text


@pytest.mark.parametrize("base", [A14B, "world"])
def test_the_graph_of_a_pair_of_few_steps(base: str, host: Server) -> None:
    """One sampler over both networks; how many steps, and for which of them, the LoRA says."""
    info = replace(WAN, base=base, sampler="renoise", sample_steps=4, cfg=None, cfg_low=None)
    prompt = prompt_of(workflow(info, "ink", BOTH), host.get("/object_info"))
    found: dict[str, list[dict[str, Any]]] = {}
    for name, node in prompt.items():
        found.setdefault(node["class_type"], []).append({**node["inputs"], "name": name})
    assert not {"KSamplerAdvanced", "ByG_ExpertSplit", "PrimitiveInt"} & found.keys()
    (few,), (first, second) = found["ByG_FewSteps"], found["SamplerCustomAdvanced"]
    (loader,), (edit,), (silent,) = (
        found[kind] for kind in ("ByG_Loader", "ByG_VideoEdit", "DisableNoise")
    )
    assert few["steps"] == 0 and loader["lora_name"] == "ink_high_noise.safetensors"
    assert few["latent_image"] == first["latent_image"] == [edit["name"], 2]
    assert first["sampler"] == second["sampler"] == [few["name"], 1]
    assert (first["noise"], second["noise"]) == ([few["name"], 0], [silent["name"], 0])
    assert (first["sigmas"], second["sigmas"]) == ([few["name"], 2], [few["name"], 3])
    assert second["latent_image"] == [first["name"], 0]
    guiders = {guider["name"]: guider for guider in found["CFGGuider"]}
    for sampler, output in ((first, 0), (second, 1)):
        guider = guiders[sampler["guider"][0]]
        assert guider["cfg"] == 1.0 and guider["model"] == [loader["name"], output]


def test_the_graph_of_few_steps_of_one_network() -> None:
    one = {"expert": None, "boundary": None, "multiple": 32, "fps": 24.0, "cfg": 2.5}
    info = replace(WAN, base=TI2V, sampler="renoise", sample_steps=4, **one)
    graph = titled(workflow(info, "ink"))
    assert "KSampler" not in graph and graph["CFGGuider"]["widgets_values"] == [2.5]
    assert graph["ByG_FewSteps"]["widgets_values"][2] == 0


def test_the_graph_says_what_it_is() -> None:
    (text,) = titled(workflow(WAN, "ink", BOTH))["Note"]["widgets_values"]
    for words in ("# ink", "ink_high_noise", "ink_low_noise", A14B, *WAN.instructions):
        assert words in text


def test_the_graph_of_the_5b(host: Server) -> None:
    """One network: one loader, one LoRA, one sampler."""
    one = {"expert": None, "boundary": None, "multiple": 32, "fps": 24.0, "cfg": 5.0}
    info = replace(WAN, base=TI2V, **one)
    prompt = prompt_of(workflow(info, "ink"), host.get("/object_info"))
    found = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert found["ByG_Loader"]["lora_name"] == "ink.safetensors"
    assert found["ByG_Loader"].keys() & {"model", "model_low"} == {"model"}
    assert found["ByG_VideoEdit"]["fps"] == 24.0
    sampler = found["KSampler"]
    assert (sampler["steps"], sampler["cfg"], sampler["sampler_name"]) == (40, 5.0, "uni_pc")
    assert found["UNETLoader"]["unet_name"] == "wan2.2_ti2v_5B_fp16.safetensors"
    mine = workflow(replace(info, base="/m/my_5b.safetensors"), "ink")
    assert titled(mine)["UNETLoader"]["widgets_values"][0] == "my_5b.safetensors"
    (text,) = titled(mine)["Note"]["widgets_values"]
    assert "`ink.safetensors`" in text and "second network" not in text


def test_the_graph_of_the_small_wan() -> None:
    """The 5B's graph with other files: the VAE is that of the large pair."""
    one = {"expert": None, "boundary": None, "cfg": 6.0}
    graph = titled(workflow(replace(WAN, base="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", **one), "ink"))
    for loader, file in (("UNET", "wan2.1_t2v_1.3B_fp16"), ("VAE", "wan_2.1_vae")):
        assert graph[f"{loader}Loader"]["widgets_values"][0] == f"{file}.safetensors"
    assert graph["KSampler"]["widgets_values"][3] == 6.0
    mine = workflow(replace(WAN, base="/m/wan2.1_t2v_1.3B_bf16.safetensors", **one), "ink")
    assert titled(mine)["UNETLoader"]["widgets_values"][0] == "wan2.1_t2v_1.3B_bf16.safetensors"


@pytest.mark.parametrize("expert", ["high", "low"])
def test_the_graph_of_one_trained_expert(expert: str) -> None:
    graph = titled(workflow(replace(WAN, expert=expert), "ink", (expert,)))
    name, _, partner, *_ = graph["ByG_Loader"]["widgets_values"]
    assert (name, partner) == (f"ink_{expert}_noise.safetensors", "single expert")
    (text,) = graph["Note"]["widgets_values"]
    assert f"Only the {expert}-noise network" in text and text.count(".safetensors") == 1


@pytest.mark.parametrize(
    ("base", "high"),
    [
        (A14B, None),  # as the template has it, with where to download it
        ("/m/wan2.2_t2v_low_noise_14B_fp16.safetensors", "wan2.2_t2v_high_noise_14B_fp16"),
        ("/m/Wan2.2-T2V-HIGH-Q8.safetensors", "Wan2.2-T2V-HIGH-Q8"),
    ],
)
def test_the_graph_loads_the_base_that_it_was_trained_on(base: str, high: str | None) -> None:
    graph = titled(workflow(replace(WAN, base=base), "ink", BOTH))
    for title, expert in (("High-noise model", "high"), ("Low-noise model", "low")):
        loader = graph[title]
        if high is None:
            assert "models" in loader["properties"] and expert in loader["widgets_values"][0]
            continue
        word = "HIGH" if "HIGH" in high else "high"
        other = expert.upper() if word == "HIGH" else expert
        assert loader["widgets_values"][0] == f"{high.replace(word, other)}.safetensors"
        assert "models" not in loader["properties"]


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({}, True),
        ({"base": "/models/Wan2.2-T2V-A14B"}, True),
        ({"base": "/models/my-wan"}, False),
        ({"expert": None, "boundary": None}, False),
        ({"expert": None, "boundary": None, "base": TI2V, "multiple": 32}, True),
        ({"base": "world"}, True),
        ({"expert": None, "boundary": None, "base": "/m/wan5b.safetensors", "multiple": 32}, True),
        ({"expert": None, "boundary": None, "base": "/m/wan21.safetensors"}, False),
        ({"expert": None, "boundary": None, "base": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}, True),
        ({"expert": None, "boundary": None, "base": "/m/wan2.1_t2v_1.3B_fp16.safetensors"}, True),
        ({"expert": None, "boundary": None, "base": "Wan-AI/Wan2.1-T2V-14B-Diffusers"}, False),
    ],
)
def test_where_there_is_a_workflow(changes: dict[str, object], there: bool) -> None:
    assert has_workflow(replace(WAN, **changes)) == there


# ---------------------------------------------------------------- the card


def test_the_card() -> None:
    text = card(WAN, "my ink", has_preview=True, has_video=True, experts=BOTH)
    _, front, body = text.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert json.loads(values["base_model"]) == A14B
    assert json.loads(values["pipeline_tag"]) == "video-to-video"
    assert json.loads(values["license"]) == "apache-2.0"
    for words in ("(my%20ink.png)", "(my%20ink.mp4)", "UniPC", "| 40", "4 at high noise, 3.5 at"):
        assert words in body
    for words in ("81 frames at 16", "t = 0.875", "my ink.workflow.json", "Apache 2.0", NEGATIVE):
        assert words in body
    for instruction in WAN.instructions:
        assert f"- {instruction}" in body
    assert not re.search(r"\$[a-z_]+", body)
    (line,) = (x for x in body.splitlines() if "train edit" in x)
    words = shlex.split(line)
    assert words[words.index("--lora") + 1] == "my ink_high_noise.safetensors"
    assert words[words.index("--instruction") + 1] == WAN.instructions[0]


def test_the_cards_of_other_bases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = card(replace(WAN, base="world"), "ink", has_preview=False, experts=BOTH)
    assert "`ink.workflow.json`" in world and "bring the base along" in world
    assert ".mp4)" not in world
    with monkeypatch.context() as installed:  # without the node pack's files
        change_embedded(installed, "wan", example=tmp_path / "gone.json")
        world = card(replace(WAN, base="world"), "ink", has_preview=False, experts=BOTH)
    assert "*ByG Tiny World*" in world and "*ByG Video Edit*" in world
    small = replace(
        WAN, base="Wan-AI/Wan2.2-TI2V-5B-Diffusers", fps=24.0, frames=121, cfg=None, cfg_low=None
    )
    text = card(replace(small, expert=None, boundary=None), "ink", has_preview=True)
    for words in ("`ink.safetensors`", "one network", "121 frames at 24", "*ByG Video Edit*"):
        assert words in text
    assert "workflow.json" not in text and "noise.safetensors" not in text
