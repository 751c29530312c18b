"""Z-Image through the public commands: train, resume, edit, baselines, generate, export, plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_z_image
import tomli_w
from exports import nodes
from family_runs import byg, edits
from PIL import Image

from byg_train.config import merge_settings
from byg_train.data.limits import base_settings
from byg_train.data.media_kind import PICTURES
from byg_train.export.card import card, has_workflow, workflow
from byg_train.family import family_of
from byg_train.models.locate import told_family
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.models.networks import network
from byg_train.training.cost import memory
from byg_train.world import demo, report

HUB, SMALL = "Tongyi-MAI/Z-Image", family_of("z_image").embedded
INFO = LoraInfo(
    base=HUB, family="z_image", reference_mode="index", text_len=256,
    instructions=["make it ink"], reverse_instructions=["make it a photo"], resolution=512,
    guidance_train=None, guidance_prior=None, guidance_sample=None, sample_steps=25,
    sample_shift=3.0, rank=64, steps=3200, weights="edit", dataset="abc", cfg=4.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the preset on the tiny pictures, with guided samples at the end."""
    folder = tmp_path_factory.mktemp("z_image")
    tables = {
        "model": {
            "path": str(tiny_z_image.base()), "dtype": "float32", "text_len": tiny_z_image.TEXT_LEN,
        },
        "data": {"path": str(tiny_data), "resolution": 16, "cache": str(folder / "cache")},
        "rollout": {"steps": 2},
        "warmup": {"min_steps": 1, "max_steps": 1},
        "method": {"identity_probability": 0.0},
        "lora": {"rank": 2, "targets": ["usual", "noise_refiner"]},
        "optimizer": {"lr": 0.05},
        "train": {"steps": 2, "global_batch": 2, "batch_size": 2, "checkpoint_every": 2},
        "sample": {"steps": 2, "count": 1},
    }  # fmt: skip
    (folder / "z.toml").write_text(tomli_w.dumps(tables))
    settings = ("--config", folder / "z.toml", "--output", folder / "run", "--device", "cpu")
    byg("--preset", "z_image_edit", *settings)
    return folder / "run"


@pytest.mark.slow
def test_it_trains(run: Path) -> None:
    file = read_lora(run / "run.safetensors")
    info = LoraInfo.from_metadata(file.metadata)
    assert (info.family, info.multiple, info.cfg, info.guidance_sample) == ("z_image", 8, 4.0, None)
    assert file.metadata["modelspec.architecture"] == "Z-Image/lora"
    assert file.metadata["ss_base_model_version"] == "zimage"
    assert file.prefix == "transformer."  # which ComfyUI and diffusers read as it is
    trained = {name.rsplit(".lora_")[0] for name in file.tensors}
    assert {"layers.1.attention.to_out.0", "noise_refiner.0.feed_forward.w3"} <= trained
    assert len(trained) == 3 * 7
    assert all(t.abs().max() > 0 for name, t in file.tensors.items() if "lora_B" in name)
    assert {p.name for p in (run / "samples").iterdir()} >= {"step-000003.png"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "flowedit", "text-to-image", "bare flowedit"])
def test_its_methods_edit(run: Path, tiny_data: Path, tmp_path: Path, method: str) -> None:
    """A base alone says of which family it is."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    row = json.loads((tiny_data / "metadata.jsonl").read_text().splitlines()[0])
    (tasks / "0.png").write_bytes((tiny_data / "0.png").read_bytes())
    (tasks / "metadata.jsonl").write_text(json.dumps(row))
    base = ("--lora", run / "run.safetensors")
    if method.startswith("bare"):
        base = ("--model", tiny_z_image.base(), "--resolution", 16)
    byg(
        "evaluate", "edit", tmp_path / "out", "--sources", tasks, *base,
        "--method", method.split()[-1], "--steps", 3, "--device", "cpu",
    )  # fmt: skip
    with Image.open(tmp_path / "out" / "0.png") as made, Image.open(tasks / "0.png") as source:
        assert made.size == source.size and made.tobytes() != source.tobytes()


@pytest.mark.slow
def test_it_edits_and_exports(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    edits(run, tiny_data / "0.png", tmp_path)
    byg("export", run, "--output", tmp_path / "out", "--name", "ink")
    assert "ZImagePipeline" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_it_draws_what_captions_say(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a red thing\na blue thing\n")
    byg(
        "data", "generate", tmp_path / "drawn", "ink", "--captions", tmp_path / "captions.txt",
        "--preset", "z_image_style", "--model", tiny_z_image.base(), "--size", "16x24",
        "--set", "sample.steps=2", "--set", "model.dtype=float32", "--device", "cpu",
    )  # fmt: skip
    drawn = sorted((tmp_path / "drawn" / "ink").glob("*.png"))
    assert len(drawn) == 2
    with Image.open(drawn[0]) as first, Image.open(drawn[1]) as second:
        assert first.size == (16, 24) and first.tobytes() != second.tobytes()


@pytest.mark.slow
def test_the_demo_trains_measures_edits_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, run, measured = demo.Demo.prepare, tmp_path / "run", []
    monkeypatch.setattr(demo.Demo, "prepare", lambda self, folder: prepare(self, folder, items=30))
    monkeypatch.setattr(report, "report", lambda folder, *_: measured.append(folder))
    small = ("train.global_batch=2", "train.batch_size=2", "rollout.steps=2", "sample.steps=2")
    sets = [word for setting in small for word in ("--set", setting)]
    byg("--preset", SMALL.preset, "--steps", 1, "--output", run, "--device", "cpu", *sets)
    info = LoraInfo.from_metadata(read_lora(run / "run.safetensors").metadata)
    assert (info.base, info.family, info.multiple, info.cfg) == ("world", "z_image", 8, 1)
    assert measured == [run] and demo.demo_of(run) is demo.DEMOS[SMALL.preset]
    edits(run, next((run / "data").glob("*.png")), tmp_path)
    byg("export", run, "--output", tmp_path / "out", "--name", "ink")
    graph = json.loads((tmp_path / "out" / "ink.workflow.json").read_text())
    assert widgets(graph)["ByG_TinyWorld"][0] == SMALL.media


def test_a_folder_says_of_which_family_it_is(tiny_base: Path, tmp_path: Path) -> None:
    z, flux = (base_settings(None, str(f), [], PICTURES) for f in (tiny_z_image.base(), tiny_base))
    assert (z.model.family, z.preset) == ("z_image", "z_image_style")
    assert (flux.model.family, flux.preset) == ("flux", "flux_style")
    assert told_family(str(tmp_path)) is told_family("world") is None
    file = tmp_path / "any.safetensors"
    file.touch()
    assert told_family(str(file)) is None
    assert told_family(str(file), str(tiny_z_image.base())).name == "z_image"


# ---------------------------------------------------------------- what goes with a LoRA


def widgets(graph: dict[str, Any]) -> dict[str, list[Any]]:
    return {n.get("title") or n["type"]: n["widgets_values"] for n in graph["nodes"]}


def test_the_graph_has_the_loras_settings() -> None:
    graph = workflow(INFO, "ink")
    found = widgets(graph)
    assert found["UNETLoader"] == ["z_image_bf16.safetensors", "default"]
    assert found["LoraLoaderModelOnly"] == ["ink.safetensors", 1.0]
    assert found["ModelSamplingAuraFlow"] == [3.0]
    assert found["ImageScaleToTotalPixels"] == ["lanczos", 0.25, 16]  # even latents
    assert (found["Instruction"], found["Negative (for cfg above 1)"]) == (["make it ink"], [""])
    assert found["KSampler"][2:] == [25, 4.0, "euler", "simple", 1.0]
    assert "Tongyi-MAI/Z-Image" in found["MarkdownNote"][0] and "cfg 4" in found["MarkdownNote"][0]
    assert "models" in nodes(graph)["UNETLoader"]["properties"]
    shifted = widgets(workflow(replace(INFO, sample_shift="flux"), "ink"))
    assert 1 < shifted["ModelSamplingAuraFlow"][0] < 3


def test_the_graph_of_the_small_base_opens_it() -> None:
    small = replace(INFO, base="world", cfg=None, resolution=48, sample_steps=12)
    found = widgets(workflow(small, "ink"))
    assert found["ByG_TinyWorld"][0] == SMALL.media
    assert found["ByG_Loader"][0] == "ink.safetensors"
    assert found["KSampler"][2:4] == [12, 1.0]  # without guidance: the graph has no negative


def test_the_source_is_on_both_sides_of_the_guidance() -> None:
    """Every link is known to both of its ends, and both conditionings pass a ReferenceLatent."""
    graph = workflow(INFO, "ink")
    by_id = {node["id"]: node for node in graph["nodes"]}
    for link, start, out, end, into, kind in graph["links"]:
        assert link in by_id[start]["outputs"][out]["links"]
        assert by_id[start]["outputs"][out]["type"] == kind == by_id[end]["inputs"][into]["type"]
        assert by_id[end]["inputs"][into]["link"] == link
    assert len(graph["links"]) == sum(
        socket.get("link") is not None for node in graph["nodes"] for socket in node["inputs"]
    )
    sampler = nodes(graph)["KSampler"]
    before = {link[0]: by_id[link[1]]["type"] for link in graph["links"]}
    kinds = {socket["name"]: before[socket["link"]] for socket in sampler["inputs"]}
    assert kinds == {
        "model": "ModelSamplingAuraFlow", "positive": "ReferenceLatent",
        "negative": "ReferenceLatent", "latent_image": "VAEEncode",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "file"),
    [
        (HUB, "z_image_bf16"),
        ("Tongyi-MAI/Z-Image-Turbo", "z_image_turbo_bf16"),
        ("/models/z_image_int8.safetensors", "z_image_int8"),
        ("/models/my-folder", None),
    ],
)
def test_the_graph_loads_the_base_that_it_was_trained_on(base: str, file: str | None) -> None:
    info = replace(INFO, base=base)
    assert has_workflow(info) == (file is not None)
    if file:
        assert widgets(workflow(info, "x"))["UNETLoader"][0] == f"{file}.safetensors"


def test_the_card_says_what_it_needs() -> None:
    text = card(INFO, "ink", has_preview=True)
    for words in ("apache-2.0", HUB, "0.11", "ZImagePipeline", "ReferenceLatent"):
        assert words in text
    assert "license: apache-2.0" not in card(
        replace(INFO, base="my-model"), "ink", has_preview=True
    )


# ---------------------------------------------------------------- the plan


def test_it_fits_a_card_of_24_gb() -> None:
    """At 512 px in bf16, by the planner; the numbers are the sheet's."""
    config = merge_settings("z_image_edit").with_dtype("bfloat16")
    net = network(config.model)
    needed = memory(config, net, config.model.text_len, 32 * 32, 512 * 512)
    assert abs(needed.weights / 12.3e9 - 1) < 0.01
    assert 14e9 < needed.total < 20e9
    assert net.sequence(256, 1024, source=True) == 256 + 2 * 1024 + 32


@pytest.mark.usefixtures("nothing_loads")
def test_the_preset_plans(tiny_data: Path, tmp_path: Path) -> None:
    data = ("--data", tiny_data, "--output", tmp_path / "run")
    plan = byg("--preset", "z_image_style", *data, "--dry-run").output
    assert "Plan of preset z_image_style" in plan and "256 text + 2 x " in plan
