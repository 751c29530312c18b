"""What `export` packs: the weights asked for, and a card and a workflow filled in with them."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import change_embedded
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.config import ConfigError, build_config
from byg_train.core.schedule import flux_shift
from byg_train.data.items import load_items
from byg_train.export.card import card, has_workflow, workflow
from byg_train.export.run import export_run
from byg_train.family import family_of
from byg_train.models.lora_file import LoraInfo, read_lora, write_lora
from byg_train.training.checkpoint import load_checkpoint
from byg_train.training.run_folder import write_config
from byg_train.training.trainer import train

FLUX = LoraInfo(
    base="black-forest-labs/FLUX.1-dev",
    family="flux",
    reference_mode="index",
    text_len=256,
    instructions=['make it "ink": $5 & more', "make it a photo"],
    reverse_instructions=["make it a photo"],
    resolution=512,
    guidance_train=1.0,
    guidance_prior=1.0,
    guidance_sample=2.5,
    sample_steps=24,
    sample_shift="flux",
    rank=64,
    steps=3200,
    weights="edit",
    dataset="abc",
)


LORA = "mine.safetensors"
EXAMPLE = family_of("flux").embedded.example


@pytest.fixture(scope="module")
def run(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps after one of warm-up: files and checkpoints of steps 3 and 5, EMA, scale 2."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    tables = {
        "model": {
            "path": str(tiny_base),
            "dtype": "float32",
            "text_len": 24,
            "gradient_checkpointing": False,
        },
        "data": {"path": str(tiny_data), "resolution": 16},
        "method": {"ema_decay": 0.9, "identity_probability": 0.0},
        "rollout": {"steps": 2},
        "warmup": {"min_steps": 1, "max_steps": 1},
        "lora": {"rank": 2, "alpha": 4.0},
        "train": {
            "steps": 4,
            "batch_size": 1,
            "global_batch": 1,
            "sample_every": 2,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
        },
        "sample": {"steps": 2, "shift": 1.5, "count": 1},
    }
    config = build_config(tables)
    write_config(folder, config)
    train(config, load_items(config.data, 8), folder, device="cpu", resume=False)
    return folder


def export(run: Path, *more: object) -> Result:
    return CliRunner().invoke(app, ["export", str(run), *(str(word) for word in more)])


def test_the_newest_weights_with_all_that_goes_with_them(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = export(run, "--output", output, "--name", "ink style")
    assert result.exit_code == 0, result.output
    names = {"README.md", "ink style.png", "ink style.safetensors"}  # no stock node loads its base
    assert {p.name for p in output.iterdir()} == names
    found, wanted = (read_lora(p) for p in (output / "ink style.safetensors", run / LORA))
    assert found.tensors.keys() == wanted.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in wanted.tensors.items())
    with Image.open(output / "ink style.png") as preview:
        preview.load()
    newest = max((run / "samples").glob("*.png"))
    assert (output / "ink style.png").read_bytes() == newest.read_bytes()
    assert "ink style.safetensors" in (output / "README.md").read_text()


@pytest.mark.parametrize("step", [3, 5])
@pytest.mark.parametrize("weights", ["live", "ema"])
def test_weights_of_a_step(run: Path, tmp_path: Path, weights: str, step: int) -> None:
    """The checkpoint's tensors, with alpha / rank = 2 baked into B, in bf16."""
    export_run(run, weights=weights, step=step, output=tmp_path / "out", name=None)
    file = read_lora(tmp_path / "out" / "mine.safetensors")
    info = LoraInfo.from_metadata(file.metadata)
    role = {"live": "edit", "ema": "ema"}[weights]
    assert (info.steps, info.weights) == (step, role)
    state = load_checkpoint(run / "checkpoints" / f"step-{step:06d}")["lora"]
    wanted = {
        key.removeprefix(f"{role}.transformer."): value * (2 if ".lora_B" in key else 1)
        for key, value in state.items()
        if key.startswith(f"{role}.")
    }
    assert wanted.keys() == file.tensors.keys() and wanted
    for name, tensor in wanted.items():
        assert torch.equal(tensor.to(torch.bfloat16), file.tensors[name])


def test_ema_and_steps_differ(run: Path, tmp_path: Path) -> None:
    """So that the test above could not pass with any of the others."""
    files = []
    for weights, step in (("live", 3), ("live", 5), ("ema", 5)):
        output = tmp_path / f"{weights}{step}"
        export_run(run, weights=weights, step=step, output=output, name="x")
        files.append(read_lora(output / "x.safetensors").tensors)
    names = [name for name in files[0] if ".lora_B" in name]
    for other in (0, 2):
        assert any(not torch.equal(files[1][n], files[other][n]) for n in names)


def test_an_interrupted_run_without_a_lora_file(run: Path, tmp_path: Path) -> None:
    """Only a checkpoint: the metadata comes from the settings and the data."""
    folder = tmp_path / "mine"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("samples"))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    written = export_run(folder, weights="live", step=3, output=None, name=None)
    found = read_lora(folder / "export" / "mine.safetensors")
    wanted = read_lora(run / "mine-000003.safetensors")
    assert all(torch.equal(found.tensors[k], v) for k, v in wanted.tensors.items())
    infos = [LoraInfo.from_metadata(f.metadata) for f in (found, wanted)]
    assert replace(infos[0], date="") == replace(infos[1], date="", base=Path(infos[1].base).name)
    assert [p.name for p in written] == ["mine.safetensors", "README.md"]
    assert "![" not in written[-1].read_text()


def test_the_preview_is_not_newer_than_the_weights(run: Path, tmp_path: Path) -> None:
    export_run(run, weights="live", step=3, output=tmp_path / "out", name="x")
    older = run / "samples" / "step-000003.png"
    assert (tmp_path / "out" / "x.png").read_bytes() == older.read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--weights", "best"], ["best", "live or ema"]),
        (["--step", 4], ["--step 4", "3, 5"]),
        (["--name", "../evil"], ["../evil"]),
        (["--name", ".hidden"], [".hidden"]),
        (["--output", "."], ["not empty"]),
    ],
)
def test_mistakes(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[object],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    before = {p: p.stat().st_mtime_ns for p in (*tmp_path.rglob("*"), *run.rglob("*"))}
    result = export(run, *more)
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr
    assert {p: p.stat().st_mtime_ns for p in (*tmp_path.rglob("*"), *run.rglob("*"))} == before


def test_no_run_and_no_ema(run: Path, tmp_path: Path) -> None:
    result = export(tmp_path)
    assert result.exit_code == 2 and "is no run" in result.stderr
    folder = tmp_path / "mine"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    result = export(folder, "--weights", "ema")
    assert result.exit_code == 2 and "no EMA weights yet" in result.stderr


@pytest.mark.parametrize("content", ["foreign", "cut"])
def test_a_stray_file_in_the_run_is_named(run: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(run, folder)
    whole = (run / LORA).read_bytes()
    save_file({"x": torch.zeros(2)}, folder / "stray.safetensors")
    if content == "cut":
        (folder / "stray.safetensors").write_bytes(whole[: len(whole) // 2])
    result = export(folder)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "stray.safetensors" in result.stderr and "move it out" in result.stderr


def test_an_export_tells_nothing_of_the_disk(run: Path, tiny_base: Path, tmp_path: Path) -> None:
    """The run's own file knows where its base is; what is shared names it alone."""
    export_run(run, weights="live", step=None, output=tmp_path / "out", name="x")
    assert str(tiny_base.parent).encode() in (run / LORA).read_bytes()
    for file in (tmp_path / "out").iterdir():
        assert str(tiny_base.parent).encode() not in file.read_bytes(), file.name


def test_an_export_for_a_base_that_comfyui_knows(run: Path, tmp_path: Path) -> None:
    """The same run, had it been on the hub's model: the workflow loads it, and the LoRA."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(run / "config.toml", folder)
    file = read_lora(run / LORA)
    metadata = replace(LoraInfo.from_metadata(file.metadata), base=FLUX.base).to_metadata()
    write_lora(folder / LORA, file.tensors, scale=1.0, family="flux", metadata=metadata)
    written = export_run(folder, weights="live", step=None, output=None, name="ink")
    assert [p.name for p in written] == ["ink.safetensors", "ink.workflow.json", "README.md"]
    graph = json.loads(written[1].read_text())
    assert nodes(graph)["LoraLoaderModelOnly"]["widgets_values"][0] == "ink.safetensors"


def test_exporting_again_replaces_the_export_alone(run: Path, tmp_path: Path) -> None:
    for step in (3, 5):
        export_run(run, weights="live", step=step, output=tmp_path / "out", name="x")
    info = LoraInfo.from_metadata(read_lora(tmp_path / "out" / "x.safetensors").metadata)
    assert info.steps == 5
    with pytest.raises(ConfigError, match="folder of its own"):
        export_run(run, weights="live", step=5, output=run, name=None)


# ---------------------------------------------------------------- the workflow


# Node -> its linked inputs and widgets, in ComfyUI 0.3.64's order.
STOCK = {
    "UNETLoader": ([], ["unet_name", "weight_dtype"]),
    "LoraLoaderModelOnly": (["model"], ["lora_name", "strength_model"]),
    "ModelSamplingFlux": (["model"], ["max_shift", "base_shift", "width", "height"]),
    "DualCLIPLoader": ([], ["clip_name1", "clip_name2", "type", "device"]),
    "VAELoader": ([], ["vae_name"]),
    "LoadImage": ([], ["image", "upload"]),
    "ImageScaleToTotalPixels": (["image"], ["upscale_method", "megapixels"]),
    "VAEEncode": (["pixels", "vae"], []),
    "CLIPTextEncode": (["clip"], ["text"]),
    "FluxGuidance": (["conditioning"], ["guidance"]),
    "ReferenceLatent": (["conditioning", "latent"], []),
    "ConditioningZeroOut": (["conditioning"], []),
    "KSampler": (
        ["model", "positive", "negative", "latent_image"],
        ["seed", "control", "steps", "cfg", "sampler_name", "scheduler", "denoise"],
    ),
    "VAEDecode": (["samples", "vae"], []),
    "SaveImage": (["images"], ["filename_prefix"]),
    "MarkdownNote": ([], ["text"]),  # a node of the front end
}
# Widgets that only the front end has.
FRONT_END = {"control", "upload"}


def nodes(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["type"]: node for node in graph["nodes"]}


def widgets(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Node -> widget -> value."""
    return {
        kind: dict(zip(STOCK[kind][1], node["widgets_values"], strict=True))
        for kind, node in nodes(graph).items()
    }


def test_the_graph_is_whole() -> None:
    """Every link is known to both of its ends, by type, and nothing else is."""
    graph = workflow(FLUX, "x")
    by_id = {node["id"]: node for node in graph["nodes"]}
    assert len(by_id) == len(graph["nodes"]) == len(nodes(graph)) == len(STOCK)
    for kind, node in nodes(graph).items():
        assert [i["name"] for i in node["inputs"]] == STOCK[kind][0], kind
        assert all(i["link"] for i in node["inputs"])
    for link, source, out_slot, target, in_slot, kind in graph["links"]:
        out, into = by_id[source]["outputs"][out_slot], by_id[target]["inputs"][in_slot]
        assert link in out["links"] and link == into["link"]
        assert kind == out["type"] == into["type"]
        assert by_id[source]["order"] < by_id[target]["order"]
    ends = sum(len(o["links"]) for n in graph["nodes"] for o in n["outputs"])
    assert ends == len(graph["links"]) == graph["last_link_id"]
    assert graph["last_node_id"] == max(by_id) and graph["version"] == 0.4


def test_the_graph_edits_the_source() -> None:
    """Positive: text, guidance, then the source; the sampler starts on the source's own size."""
    graph = workflow(FLUX, "x")
    feeds = {}
    by_id = {node["id"]: node["type"] for node in graph["nodes"]}
    for _, source, _, target, slot, _ in graph["links"]:
        feeds[by_id[target], STOCK[by_id[target]][0][slot]] = by_id[source]
    assert feeds["KSampler", "positive"] == "ReferenceLatent"
    assert feeds["ReferenceLatent", "conditioning"] == "FluxGuidance"
    assert feeds["ReferenceLatent", "latent"] == feeds["KSampler", "latent_image"] == "VAEEncode"
    assert feeds["VAEEncode", "pixels"] == "ImageScaleToTotalPixels"
    assert feeds["KSampler", "model"] == "ModelSamplingFlux"
    assert feeds["ModelSamplingFlux", "model"] == "LoraLoaderModelOnly"


def test_the_graph_has_the_loras_settings() -> None:
    filled = widgets(workflow(FLUX, "ink"))
    assert filled["LoraLoaderModelOnly"] == {
        "lora_name": "ink.safetensors",
        "strength_model": 1.0,
    }
    assert filled["CLIPTextEncode"]["text"] == FLUX.instructions[0]
    assert filled["FluxGuidance"]["guidance"] == 2.5
    assert filled["ImageScaleToTotalPixels"]["megapixels"] == 0.25  # of 1024 x 1024
    sampler = filled["KSampler"]
    assert (sampler["steps"], sampler["cfg"], sampler["denoise"]) == (24, 1.0, 1.0)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("euler", "simple")
    assert filled["SaveImage"]["filename_prefix"] == "ink"
    assert "ink.safetensors" in filled["MarkdownNote"]["text"]


@pytest.mark.parametrize(
    ("shift", "resolution", "wanted"),
    [("flux", 512, flux_shift(1024)), ("flux", 1024, flux_shift(4096)), (3.0, 512, 3.0)],
)
def test_the_graph_samples_at_the_same_times(
    shift: float | str, resolution: int, wanted: float
) -> None:
    """ModelSamplingFlux's shift, as ComfyUI computes it, is the trainer's."""
    values = widgets(workflow(replace(FLUX, sample_shift=shift, resolution=resolution), "x"))
    m = values["ModelSamplingFlux"]
    slope = (m["max_shift"] - m["base_shift"]) / (4096 - 256)
    tokens = m["width"] * m["height"] / (8 * 8 * 2 * 2)
    mu = tokens * slope + m["base_shift"] - slope * 256
    assert math.exp(mu) == pytest.approx(wanted)


def test_a_tiny_world_and_a_base_without_guidance_bypass_nodes() -> None:
    tiny = workflow(replace(FLUX, resolution=48, guidance_sample=None), "x")
    modes = {kind: node["mode"] for kind, node in nodes(tiny).items() if node["mode"]}
    assert modes == {"ImageScaleToTotalPixels": 4, "FluxGuidance": 4}
    assert not any(node["mode"] for node in workflow(FLUX, "x")["nodes"])


def test_no_stock_node_shares_positions() -> None:
    assert has_workflow(FLUX)
    assert not has_workflow(replace(FLUX, reference_mode="shared"))


@pytest.mark.parametrize(
    ("told", "drawn"),
    [
        ("turn the 3d render into an ink drawing", "3d render"),
        ("paint it red", None),  # may be said of the example as it is
    ],
)
def test_the_embedded_base_comes_with_the_packs_own_example(told: str, drawn: str | None) -> None:
    info = replace(FLUX, base="world", instructions=[told], sample_steps=7)
    assert has_workflow(info) and "x.workflow.json" in card(info, "x", has_preview=True)
    example, graph = (
        nodes(json.loads(EXAMPLE.read_text(encoding="utf-8"))),
        nodes(workflow(info, "x")),
    )
    assert graph.keys() == example.keys()
    changed = {
        kind: [new for old, new in zip(was, now, strict=True) if new != old]
        for kind in graph
        if (was := example[kind]["widgets_values"]) != (now := graph[kind]["widgets_values"])
    }
    (note,) = changed.pop("MarkdownNote")
    assert "x.safetensors" in note and f"- {told}" in note
    assert changed == {
        "ByG_Loader": ["x.safetensors"],
        "CLIPTextEncode": [told],
        "KSampler": [7],
        "SaveImage": ["ByG/x"],
    } | ({"ByG_TinyWorld": [drawn]} if drawn else {})


@pytest.mark.parametrize(
    ("base", "file"),
    [
        ("black-forest-labs/FLUX.1-dev", "flux1-dev.safetensors"),
        ("/models/FLUX.1-dev", "flux1-dev.safetensors"),
        ("/models/my flux.safetensors", "my flux.safetensors"),
        ("/models/flux1-dev.safetensors", "flux1-dev.safetensors"),
        ("somebody/flux-tuned", "flux-tuned.safetensors"),
        ("/models/flux-tuned", None),
    ],
)
def test_the_graph_loads_the_base_that_it_was_trained_on(base: str, file: str | None) -> None:
    info = replace(FLUX, base=base)
    assert has_workflow(info) == (file is not None)
    if file:
        loader = nodes(workflow(info, "x"))["UNETLoader"]
        assert loader["widgets_values"] == [file, "default"]
        # The template's download is FLUX.1-dev.
        assert ("models" in loader["properties"]) == (file == "flux1-dev.safetensors")


def test_the_graph_says_what_size_comes_out() -> None:
    (text,) = nodes(workflow(FLUX, "x"))["MarkdownNote"]["widgets_values"]
    assert "about 512 x 512 pixels" in text and "not the source's size" in text
    (text,) = nodes(workflow(replace(FLUX, resolution=48), "x"))["MarkdownNote"]["widgets_values"]
    assert "ImageScaleToTotalPixels" not in text  # bypassed


def test_the_stock_nodes_are_as_comfyui_has_them(comfyui: Path) -> None:
    """Names of nodes and inputs, against the source of a real ComfyUI."""
    files = [comfyui / "nodes.py", *(comfyui / "comfy_extras").glob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for kind, (inputs, fields) in STOCK.items():
        if kind == "MarkdownNote":
            continue
        body = re.search(rf"^class {kind}\b.*?(?=^class |\Z)", source, re.S | re.M)
        assert body, f"ComfyUI has no node {kind}"
        for name in (set(inputs) | set(fields)) - FRONT_END:
            assert f'"{name}"' in body.group(), f"{kind} has no input {name}"


# ---------------------------------------------------------------- the card


def test_the_card() -> None:
    text = card(FLUX, "ink", has_preview=True)
    _, front, body = text.split("---\n", 2)
    matter = dict(line.split(": ", 1) for line in front.strip().splitlines())
    values = {key: json.loads(value) for key, value in matter.items()}
    assert values["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert values["pipeline_tag"] == "image-to-image"
    assert values["license"] == "other" and "non-commercial" in values["license_name"]
    assert {"lora", "comfyui", "byg"} <= set(values["tags"])
    for words in ("(ink.png)", "ink.workflow.json", "2.5", "24", "3200", "strength", "Removing"):
        assert words in body
    for instruction in FLUX.instructions:
        assert f"- {instruction}" in body
    assert not re.search(r"\$[a-z_]+", body)  # every placeholder was filled


def test_the_card_of_a_local_base_claims_no_hub_model() -> None:
    text = card(replace(FLUX, base="world"), "ink", has_preview=False)
    assert "base_model" not in text and "license:" not in text
    assert "ink.png" not in text and "`world`" in text
    assert "models/loras" in text and "ink.workflow.json" in text and "ByG nodes" in text


def test_without_the_node_pack_the_embedded_base_has_no_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a wheel, which holds byg_train alone."""
    change_embedded(monkeypatch, "flux", example=tmp_path / "gone.json")
    info = replace(FLUX, base="world")
    text = card(info, "ink", has_preview=False)
    assert not has_workflow(info) and "workflow.json" not in text
    assert "*ByG Tiny World*" in text


@pytest.mark.parametrize("base", ["/m/flux1-dev.safetensors", "/m/flux1-dev-fp8.safetensors"])
def test_the_licence_follows_a_single_file(base: str) -> None:
    assert "flux-1-dev-non-commercial-license" in card(
        replace(FLUX, base=base), "x", has_preview=True
    )


def test_a_card_tells_nothing_of_the_disk_it_was_made_on() -> None:
    info = replace(FLUX, base="/home/somebody/secret client/my-flux.safetensors")
    for text in (card(info, "x", has_preview=True), json.dumps(workflow(info, "x"))):
        assert "my-flux" in text and "somebody" not in text and "secret" not in text


def test_the_cards_command_survives_a_shell() -> None:
    (line,) = (x for x in card(FLUX, "my ink", has_preview=True).splitlines() if "train edit" in x)
    words = shlex.split(line)
    assert words[words.index("--instruction") + 1] == FLUX.instructions[0]
    assert words[words.index("--lora") + 1] == "my ink.safetensors"


def test_a_card_offers_the_workflow_only_where_there_is_one() -> None:
    assert "x.workflow.json" in card(FLUX, "x", has_preview=True)
    shared = card(replace(FLUX, reference_mode="shared"), "x", has_preview=True)
    assert "x.workflow.json" not in shared and "ByG's own" in shared
