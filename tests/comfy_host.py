"""A real ComfyUI for tests, in a process of its own: it changes logging, devices, torch settings.

`in_host(function, *arguments)` runs a function of `graphs` there, in one process for the whole
session, with the node pack loaded as ComfyUI loads it; `call` runs a node. Functions and results
go through pickle: results are numbers, texts and tensors.

python tests/comfy_host.py TREE FOLDER runs one tiny FLUX (see test_lora_file.py): FOLDER holds
job.json (the network's shape), model.safetensors (diffusers' names), lora.safetensors and
inputs.safetensors; written are outputs.safetensors and report.json.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from stand_ins import stand_in
from torch import Tensor


def make_importable(tree: Path) -> None:
    """Make ComfyUI importable, on the CPU."""
    # Before the repository, whose folder `nodes` is not ComfyUI's module.
    sys.path.insert(0, str(tree))
    stand_in()
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True


# ---------------------------------------------------------------- a host for the session

ROOT = Path(__file__).parents[1]
PACKAGES = ("av", "einops", "psutil", "scipy", "torchsde")
# Of ComfyUI's own nodes beside its core ones, those that graphs with ByG use.
STOCK = ("custom_sampler", "flux", "edit_model", "model_advanced", "context_windows")
STOCK += ("model_merging", "perpneg", "hooks", "latent")


def in_host(function: Callable, *arguments: Any) -> Any:
    """The result of a function of `graphs`, run in the host's process; its errors come as here."""
    require_host(PACKAGES)
    return run_there(function, *arguments)


def run_there(function: Callable, *arguments: Any) -> Any:
    """The same outside of tests."""
    return _host().submit(_run, function, *arguments).result()


def call(node: str, **inputs: Any) -> tuple:
    """Run a node of the host as a graph would, with the defaults of the widgets left out."""
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[node]
    types = kind.INPUT_TYPES()
    widgets = {**types["required"], **types.get("optional", {})}
    assert inputs.keys() <= widgets.keys(), inputs.keys() - widgets.keys()
    defaults = {name: _default(*widget) for name, widget in widgets.items()}
    given = {**{name: value for name, value in defaults.items() if value is not None}, **inputs}
    if hasattr(kind, "PREPARE_CLASS_CLONE"):
        return kind.PREPARE_CLASS_CLONE({}).EXECUTE_NORMALIZED(**given).args
    return getattr(kind(), kind.FUNCTION)(**given)


def loras() -> Path:
    """The host's models/loras."""
    return Path(_base()) / "models" / "loras"


def _default(kind: Any, options: dict | None = None) -> Any:
    choices = kind if isinstance(kind, list) else (options or {}).get("options")
    return (options or {}).get("default", choices[0] if choices else None)


@cache
def _base() -> str:
    """The host's folder of models, inputs and outputs."""
    base = tempfile.mkdtemp(prefix="byg-host-")
    for folder in ("models/loras", "input", "output", "temp", "custom_nodes", "user"):
        (Path(base) / folder).mkdir(parents=True)
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    return base


def require_host(packages: tuple[str, ...]) -> None:
    """Skip (with BYG_REQUIRE_HOST=1 fail) a test where there is no ComfyUI that could run."""
    import fetch_host
    import lanes

    lanes.needs("host")
    if absent := [package for package in packages if not find_spec(package)]:
        lanes.missing("host", f"ComfyUI lacks the packages {absent}")
    if not fetch_host.found():
        lanes.missing("host", "there is no ComfyUI (python tests/fetch_host.py fetches one)")


def since(version: str, what: str) -> None:
    """Skip a test of something that the ComfyUI here is too old for."""
    import fetch_host
    import pytest

    require_host(())
    wanted, found = tuple(map(int, version.split("."))), fetch_host.version()
    if found < wanted:
        here = ".".join(map(str, found))
        pytest.skip(f"{what}: since ComfyUI {version}, this one is {here}")


@cache
def _host() -> ProcessPoolExecutor:
    import fetch_host

    spawn = multiprocessing.get_context("spawn")
    start = (str(fetch_host.host_folder()), _base())
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=_start, initargs=start)


def _start(tree: str, base: str) -> None:
    """ComfyUI with the pack."""
    start_host(tree, base)
    load_pack()


def start_host(tree: str, base: str) -> None:
    """ComfyUI as main.py starts it, without its server; what it sets holds for the process."""
    make_importable(Path(tree))
    from comfy.cli_args import args

    args.base_directory = base
    import nodes

    for name in STOCK:
        file = Path(tree) / "comfy_extras" / f"nodes_{name}.py"
        assert asyncio.run(nodes.load_custom_node(str(file), module_parent="comfy_extras"))


def load_pack() -> None:
    """The pack, as ComfyUI loads a custom node."""
    import nodes

    assert asyncio.run(nodes.load_custom_node(str(ROOT))), "the pack does not load: see above"


def _run(function: Callable, *arguments: Any) -> Any:
    with torch.inference_mode():  # as ComfyUI runs nodes
        return function(*arguments)


# ---------------------------------------------------------------- one FLUX, for test_lora_file.py


class Warnings(logging.Handler):
    """Collects what ComfyUI only logs: keys of a LoRA that it does not know."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def original_names(weights: dict[str, Tensor], shape: dict) -> dict[str, Tensor]:
    """diffusers' names -> the original ones, by ComfyUI's own table; q, k, v are rows of one."""
    import comfy.utils

    table, found = comfy.utils.flux_to_diffusers(shape), {}
    for name, weight in weights.items():
        target = table[name]
        key, part, change = (*((target,) if isinstance(target, str) else target), None, None)[:3]
        weight = change(weight) if change else weight
        found.setdefault(key, []).append((part[1] if part else 0, weight))
    return {
        key: torch.cat([w for _, w in sorted(parts, key=lambda p: p[0])])
        for key, parts in found.items()
    }


def patch(model: Any, file: Path) -> dict[str, list[str]]:
    """Put a LoRA into a model as the stock loader node does; the warnings, and what it changed."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.utils

    cpu, warnings = torch.device("cpu"), Warnings()
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    logging.getLogger().addHandler(warnings)
    lora = comfy.utils.load_torch_file(str(file))
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    logging.getLogger().removeHandler(warnings)
    patched.patch_model()
    return {"warnings": warnings.messages, "patched": sorted(patched.patches)}


def main(tree: Path, folder: Path) -> None:
    """Load model and LoRA as the stock loader node does, and run the network with and without."""
    make_importable(tree)
    import comfy.ldm.flux.model
    import comfy.supported_models

    shape = json.loads((folder / "job.json").read_text())
    if "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__dataclass_fields__:
        shape["txt_ids_dims"] = []  # of later hosts
    config = comfy.supported_models.Flux(shape)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    weights = original_names(load_file(folder / "model.safetensors"), shape)
    model.diffusion_model.load_state_dict(weights)
    inputs = load_file(folder / "inputs.safetensors")

    @torch.no_grad()
    def run() -> Tensor:
        return model.diffusion_model(
            inputs["x"], inputs["t"], inputs["prompt_embeds"], inputs["pooled"],
            inputs["guidance"], ref_latents=[inputs["source"]],
        )  # fmt: skip

    outputs = {"base": run()}
    report = patch(model, folder / "lora.safetensors")
    outputs["lora"] = run()
    save_file(outputs, folder / "outputs.safetensors")
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
