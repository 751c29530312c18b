"""Run tiny Wans inside ComfyUI: python tests/comfy_wan.py TREE FOLDER... (see test_wan_lora.py).

A FOLDER holds job.json (ComfyUI's class and the shape), model.safetensors (Wan's own
names), lora.safetensors and inputs.safetensors; written are outputs.safetensors and report.json. A
process of its own, since ComfyUI changes logging, devices and torch settings when it is imported.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch
from comfy_host import Warnings, stand_in_for_torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def share_positions(network: nn.Module) -> None:
    """The second half of the frames gets the positions of the first: stock ComfyUI counts on."""
    encode = network.rope_encode

    def shared(frames: int, *sizes: int, **options: object) -> Tensor:
        return torch.cat([encode(frames // 2, *sizes, **options)] * 2, dim=1)

    network.rope_encode = shared


def start(tree: Path) -> None:
    """Make ComfyUI importable, on the CPU."""
    sys.path.insert(0, str(tree))
    stand_in_for_torchvision()
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True


def run_job(folder: Path) -> None:
    """Load model and LoRA as the stock loader node does, and run the network with and without."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models
    import comfy.utils

    job = json.loads((folder / "job.json").read_text())
    config = getattr(comfy.supported_models, job["class"])(job["shape"])
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    model.diffusion_model.load_state_dict(load_file(folder / "model.safetensors"))
    inputs = load_file(folder / "inputs.safetensors")

    @torch.no_grad()
    def run(source: Tensor | None) -> Tensor:
        v = model.diffusion_model(
            inputs["x"], 1000 * inputs["t"], inputs["prompt_embeds"], time_dim_concat=source
        )
        return v.contiguous()

    outputs, warnings = {"plain": run(None)}, Warnings()
    share_positions(model.diffusion_model)
    outputs["base"] = run(inputs["source"])
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    logging.getLogger().addHandler(warnings)
    lora = comfy.utils.load_torch_file(str(folder / "lora.safetensors"))
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    logging.getLogger().removeHandler(warnings)
    patched.patch_model()
    outputs["lora"] = run(inputs["source"])
    save_file(outputs, folder / "outputs.safetensors")
    report = {"warnings": warnings.messages, "patched": sorted(patched.patches)}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    start(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        run_job(Path(name))
