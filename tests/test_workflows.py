"""The shipped workflows in a real ComfyUI: found, run to the end, and what comes out is an edit.

The tiny world stands for FLUX.1-dev and Wan 2.2 (tools/prompts.py); sources are its scenes, so
the true counterpart of every edit can be drawn and compared with.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fetch_host
import numpy as np
import pytest
from comfy_host import since
from comfy_server import PACK, Done, Server, server
from PIL import Image
from safetensors.torch import load_file, save_file

from byg_train.models.lora_file import read_info
from byg_train.world import scenes
from byg_train.world.scenes import Scene
from tools import build_workflows
from tools.kits import FLUX_KIT
from tools.prompts import (
    BLUEPRINTS,
    BYPASSED,
    ROOT,
    WORKFLOWS,
    Prompt,
    of_class,
    on_tiny_world,
    prompt_of,
    read,
    shipped,
    tiny_world,
    with_inputs,
)
from tools.world.lots import CANVASES

DEMO = "ByG tiny world: demo"
TURBO, FEW_STEPS = "turbo.safetensors", "few_steps.safetensors"
RENDER = "turn the ink drawing into a 3d render with a red subject"
RED_GROUND, BLUE_GROUND = (f"change the background to a {c} ground" for c in ("red", "blue"))
INK = Scene("fox", "ink", "blue", "plain", canvas=(56, 40))
TRUTH = replace(INK, style="3d", tint="red")
# What the FLUX workflows say, in words of the tiny world.
WORDS = {
    FLUX_KIT.instruction: RENDER,
    FLUX_KIT.captions[0]: scenes.caption(INK),
    FLUX_KIT.captions[1]: scenes.caption(TRUTH),
}


@pytest.fixture(scope="session")
def host() -> Server:
    """The server, with pictures to edit in its input folder."""
    found = server()
    pictures = found.base / "input" / "my_pictures"
    pictures.mkdir(exist_ok=True)
    _save(INK, pictures.with_name("ink.png"))
    for i, canvas in enumerate(CANVASES):
        _save(replace(INK, canvas=canvas), pictures / f"{i}.png")
    return found


def _save(scene: Scene, path: Path, mask: np.ndarray | None = None) -> None:
    """A scene as a PNG; `mask` as Load Image finds it: painted where the picture is transparent."""
    picture = Image.fromarray(scenes.draw(scene))
    if mask is not None:
        picture.putalpha(Image.fromarray((255 * (1 - mask)).astype(np.uint8)))
    picture.save(path)


def _workflow(host: Server, name: str, words: dict[str, str] = WORDS) -> Prompt:
    """A FLUX workflow with the tiny world's models, editing the ink drawing."""
    prompt = shipped(name, host.get("/object_info"))
    prompt = on_tiny_world(prompt, DEMO, words, tiny_world("picture"))
    return with_inputs(prompt, "LoadImage", image="ink.png")


def _error(picture: np.ndarray, truth: Scene) -> float:
    return float(np.abs(picture / 255 - scenes.draw(truth) / 255).mean())


def _is_an_edit(picture: np.ndarray) -> None:
    """Of the source's size, a picture, and much nearer to the true counterpart than the source."""
    before = scenes.draw(INK)
    assert picture.shape == before.shape and picture.std() > 20
    assert _error(picture, TRUTH) < 0.75 * _error(before, TRUTH)


# ---------------------------------------------------------------- files


def test_the_files_are_what_the_builder_writes(host: Server) -> None:
    if fetch_host.version() != tuple(map(int, fetch_host.VERSION.split("."))):
        pytest.skip(f"the files are written with the widgets of ComfyUI {fetch_host.VERSION}")
    built = build_workflows.build(host.get("/object_info"))
    known = {str(p.relative_to(ROOT)) for p in (*WORKFLOWS, *BLUEPRINTS)}
    ours = {*build_workflows.TEMPLATES, *build_workflows.EXPORTED, build_workflows.WIDGETS}
    assert known | ours == built.keys()
    for path, content in built.items():
        again = "python -m tools.build_workflows"
        assert read(ROOT / path) == content, f"{path} is not what `{again}` writes"


def test_every_workflow_has_its_thumbnail() -> None:
    for path in WORKFLOWS:
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG" and min(picture.size) >= 256


def test_missing_models_can_be_fetched(host: Server) -> None:
    """Every official file says where it comes from; the frontend's dialog wants all three."""
    for path in WORKFLOWS:
        for node in read(path)["nodes"]:
            names = [v for v in node.get("widgets_values", []) if str(v).endswith(".safetensors")]
            models = {model["name"]: model for model in node["properties"].get("models", [])}
            if node["type"] != "ByG_Loader":
                assert set(names) == models.keys(), f"{path.name}: {node['type']}"
            for name, model in models.items():
                owners = ("Comfy-Org", "comfyanonymous", "ByteDance")
                assert model["url"].split("/")[:3] == ["https:", "", "huggingface.co"]
                assert model["url"].split("/")[3] in owners
                assert model["url"].endswith(f"/{name}")
                folders = ("diffusion_models", "text_encoders", "vae", "loras")
                assert model["directory"] in folders


def test_the_template_browser_finds_them(host: Server) -> None:
    assert set(host.get("/api/workflow_templates")[PACK]) == {path.stem for path in WORKFLOWS}
    for path in WORKFLOWS:
        found = host.get(f"/api/workflow_templates/{PACK}/{path.name}")
        assert found == read(path)
        picture = host.raw(f"/api/workflow_templates/{PACK}/{path.stem}.jpg")
        assert picture == path.with_suffix(".jpg").read_bytes()


def test_the_host_finds_the_blueprints(host: Server) -> None:
    since("0.3.66", "blueprints of node packs")
    found = host.get("/api/global_subgraphs")
    ours = {k: e for k, e in found.items() if e["info"]["node_pack"] == f"custom_nodes.{PACK}"}
    named = {entry["name"]: key for key, entry in ours.items()}
    assert named.keys() == {path.stem for path in BLUEPRINTS}
    for path in BLUEPRINTS:
        entry = host.get(f"/api/global_subgraphs/{named[path.stem]}")
        assert entry["data"] == path.read_text(encoding="utf-8")


def test_help_pages_and_translations_are_served(host: Server) -> None:
    pages = ROOT / "web" / "docs"
    for page in pages.rglob("*.*"):
        found = host.raw(f"/extensions/{PACK}/docs/{page.relative_to(pages).as_posix()}")
        assert found == page.read_bytes()
    texts = host.get("/i18n")
    for language in ("en", "zh", "ja"):
        assert "ByG_Loader" in texts[language]["nodeDefs"]


# ---------------------------------------------------------------- pictures


def _saved(host: Server, prompt: Prompt, done: Done) -> list[np.ndarray]:
    return [p for node in of_class(prompt, "SaveImage") for p in host.pictures(done, node)]


def _shown(host: Server, prompt: Prompt, done: Done) -> list[np.ndarray]:
    return [p for node in of_class(prompt, "PreviewImage") for p in host.pictures(done, node)]


def _under_the_slider(host: Server, prompt: Prompt, done: Done) -> list[np.ndarray]:
    """Source and edit beside each other, as ByG Compare's slider gets them."""
    (node,) = of_class(prompt, "ByG_Compare")
    files = [host.base / f["type"] / f["filename"] for f in done.outputs[node]["before_after"]]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def test_an_image_edit(host: Server) -> None:
    prompt = _workflow(host, "byg_flux_image_edit")
    done = host.run(prompt)
    (picture,) = _saved(host, prompt, done)
    _is_an_edit(picture)
    (both,) = _under_the_slider(host, prompt, done)
    assert np.array_equal(both, np.concatenate([scenes.draw(INK), picture], axis=1))
    (loader,) = of_class(prompt, "ByG_Loader")
    assert "modules matched" in done.outputs[loader]["text"][0]


def test_an_edit_in_few_steps(host: Server) -> None:
    """Beside a turbo LoRA, here a weak one of another trainer, 8 steps are an edit."""
    weights = load_file(ROOT / "byg_train" / "world" / "demo.safetensors")
    save_file({k: v * 0.1 for k, v in weights.items()}, host.base / "models" / "loras" / TURBO)
    prompt = _workflow(host, "byg_flux_few_steps")
    prompt = with_inputs(prompt, "LoraLoaderModelOnly", lora_name=TURBO)
    (sampler,) = of_class(prompt, "KSampler")
    assert prompt[sampler]["inputs"]["steps"] == 8
    (picture,) = _saved(host, prompt, host.run(prompt))
    _is_an_edit(picture)


def test_a_lora_for_few_steps_needs_no_second_one(host: Server) -> None:
    """As the note says: the turbo LoRA is bypassed, steps and sampler are those of the report."""
    demo = ROOT / "byg_train" / "world" / "demo.safetensors"
    info = replace(read_info(demo), sampler="renoise", sample_steps=4)
    save_file(load_file(demo), host.base / "models" / "loras" / FEW_STEPS, info.to_metadata())
    workflow = read(ROOT / "workflows" / "byg_flux_few_steps.json")
    for node in workflow["nodes"]:
        node["mode"] = BYPASSED if node["type"] == "LoraLoaderModelOnly" else node["mode"]
    prompt = prompt_of(workflow, host.get("/object_info"))
    prompt = on_tiny_world(prompt, FEW_STEPS, WORDS, tiny_world("picture"))
    prompt = with_inputs(prompt, "LoadImage", image="ink.png")
    prompt = with_inputs(prompt, "KSampler", steps=4, sampler_name="lcm")
    done = host.run(prompt)
    (loader,) = of_class(prompt, "ByG_Loader")
    said = " ".join(done.outputs[loader]["text"][0].split())
    assert "sample with 4 steps, lcm, simple, cfg 1" in said
    (picture,) = _saved(host, prompt, done)
    _is_an_edit(picture)


def test_an_edit_inside_a_mask(host: Server) -> None:
    mask = np.zeros((40, 56))
    mask[:, 28:] = 1
    _save(INK, host.base / "input" / "masked.png", mask)
    prompt = with_inputs(_workflow(host, "byg_flux_mask_edit"), "LoadImage", image="masked.png")
    (picture,) = _saved(host, prompt, host.run(prompt))
    source = scenes.draw(INK)
    assert np.array_equal(picture[mask == 0], source[mask == 0])
    assert np.abs(picture[mask == 1] - source[mask == 1].astype(float)).mean() > 5


def test_a_folder(host: Server) -> None:
    since("0.3.75", "Load Image Dataset from Folder")
    prompt = _workflow(host, "byg_flux_folder_style")
    pictures = _saved(host, prompt, host.run(prompt))
    sizes = sorted(picture.shape[:2] for picture in pictures)
    assert sizes == sorted((height, width) for width, height in CANVASES)
    for picture in pictures:
        canvas = picture.shape[1::-1]
        source, truth = replace(INK, canvas=canvas), replace(TRUTH, canvas=canvas)
        assert _error(picture, truth) < 0.75 * _error(scenes.draw(source), truth)


def test_there_and_back(host: Server) -> None:
    words = {FLUX_KIT.instruction: RED_GROUND, FLUX_KIT.reverse: BLUE_GROUND}
    prompt = _workflow(host, "byg_flux_cycle_check", words)
    done = host.run(prompt)
    (there,) = _saved(host, prompt, done)
    assert _error(there, replace(INK, ground="red")) < 0.5 * _error(there, INK)
    finishes = of_class(prompt, "ByG_Finish")
    assert len(finishes) == 2
    (lost,) = _shown(host, prompt, done)  # four times the difference to the source
    assert lost.shape == there.shape
    assert lost.mean() / 4 < 0.5 * 255 * _error(there, INK)


@pytest.mark.parametrize("name", ["byg_flux_debug", "byg_3_tiny_debug"])
def test_a_debug_graph(host: Server, name: str) -> None:
    infos = host.get("/object_info")
    prompt = _workflow(host, name) if "flux" in name else shipped(name, infos)
    done = host.run(prompt)
    (picture,) = _saved(host, prompt, done)
    source = scenes.draw(INK) if "flux" in name else scenes.draw(replace(INK, canvas=(48, 48)))
    assert picture.shape == source.shape and picture.std() > 20
    (grid,) = _shown(host, prompt, done)
    assert grid.shape[1] > 6 * 384 and grid.std() > 20
    (report,) = (done.outputs[node]["text"][0] for node in of_class(prompt, "PreviewAny"))
    assert report.count("as sharp as multi-step") == report.count("edit direction") == 5
    assert "NO EFFECT" not in report and "COLLAPSE" not in report


@pytest.mark.parametrize("name", ["byg_1_tiny_image_edit", "byg_4_tiny_few_steps"])
def test_the_tiny_world_needs_nothing(host: Server, name: str) -> None:
    """As it is opened: no file, no choice, press Run."""
    prompt = shipped(name, host.get("/object_info"))
    (picture,) = _saved(host, prompt, host.run(prompt))
    source, truth = (replace(scene, canvas=(48, 48)) for scene in (INK, TRUTH))
    assert picture.shape == (48, 48, 3)
    assert _error(picture, truth) < 0.75 * _error(scenes.draw(source), truth)


def test_the_all_in_one_box(host: Server) -> None:
    blueprint = read(ROOT / "subgraphs" / "ByG Image Edit (easy).json")
    prompt = prompt_of(blueprint, host.get("/object_info"))
    prompt = on_tiny_world(prompt, DEMO, WORDS, tiny_world("picture"))
    (finish,) = of_class(prompt, "ByG_Finish")
    prompt["in"] = {"class_type": "LoadImage", "inputs": {"image": "ink.png"}}
    prompt = with_inputs(prompt, "ByG_ImageEdit", image=["in", 0])
    saved = {"images": [finish, 0], "filename_prefix": "box"}
    prompt["out"] = {"class_type": "SaveImage", "inputs": saved}
    (picture,) = _saved(host, prompt, host.run(prompt))
    _is_an_edit(picture)
