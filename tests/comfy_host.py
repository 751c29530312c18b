"""Run a tiny FLUX inside ComfyUI: python tests/comfy_host.py TREE FOLDER (see test_lora_file.py).

FOLDER holds job.json (the network's shape), model.safetensors (diffusers' names), lora.safetensors
and inputs.safetensors; written are outputs.safetensors and report.json. A process of its own, since
ComfyUI changes logging, devices and torch settings when it is imported.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def stand_in_for_torchvision() -> None:
    """Some of ComfyUI's other models import torchvision; nothing here uses it.

    It may be absent, or a CUDA build beside a CPU torch, which fails when it is imported.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("torchvision", "torchvision.transforms"):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]


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


def main(tree: Path, folder: Path) -> None:
    """Load model and LoRA as the stock loader node does, and run the network with and without."""
    sys.path.insert(0, str(tree))
    stand_in_for_torchvision()
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    shape = json.loads((folder / "job.json").read_text())
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

    outputs, warnings = {"base": run()}, Warnings()
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    logging.getLogger().addHandler(warnings)
    lora = comfy.utils.load_torch_file(str(folder / "lora.safetensors"))
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    logging.getLogger().removeHandler(warnings)
    patched.patch_model()
    outputs["lora"] = run()
    save_file(outputs, folder / "outputs.safetensors")
    report = {"warnings": warnings.messages, "patched": sorted(patched.patches)}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
