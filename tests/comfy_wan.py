"""Run tiny Wans inside ComfyUI: python tests/comfy_wan.py TREE FOLDER... (see test_wan_lora.py).

A FOLDER holds job.json (ComfyUI's class and the shape), model.safetensors (Wan's own
names), lora.safetensors and inputs.safetensors; written are outputs.safetensors and report.json. A
process of its own, since ComfyUI changes logging, devices and torch settings when it is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from comfy_host import make_importable, patch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def share_positions(network: nn.Module) -> None:
    """The second half of the frames gets the positions of the first: stock ComfyUI counts on."""
    encode = network.rope_encode

    def shared(frames: int, *sizes: int, **options: object) -> Tensor:
        return torch.cat([encode(frames // 2, *sizes, **options)] * 2, dim=1)

    network.rope_encode = shared


def run_job(folder: Path) -> None:
    """Load model and LoRA as the stock loader node does, and run the network with and without."""
    import comfy.supported_models

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

    outputs = {"plain": run(None)}
    share_positions(model.diffusion_model)
    outputs["base"] = run(inputs["source"])
    report = patch(model, folder / "lora.safetensors")
    outputs["lora"] = run(inputs["source"])
    save_file(outputs, folder / "outputs.safetensors")
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    make_importable(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        run_job(Path(name))
