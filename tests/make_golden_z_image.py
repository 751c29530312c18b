"""Write what a ComfyUI computes for a tiny random Z-Image: python tests/make_golden_z_image.py

COMFYUI_PATH is a ComfyUI of 0.11.0 or later. The package index has an older one only, which does
not know sources for Z-Image; so tests without another compare with this file.
"""

from __future__ import annotations

import fetch_host
from comfy_host import run_there
from graphs_z_image import velocity
from host_z_image import base
from safetensors.torch import save_file
from z_image_cases import CASES, GOLDEN


def main() -> None:
    tensors = {}
    for seed, (name, case) in enumerate(CASES.items()):
        inputs = case.inputs(seed)
        found = {**inputs, "v": run_there(velocity, str(base()), *inputs.values())}
        tensors |= {f"{name}/{key}": tensor.contiguous() for key, tensor in found.items()}
    version = ".".join(map(str, fetch_host.version()))
    GOLDEN.parent.mkdir(exist_ok=True)
    save_file(tensors, GOLDEN, {"comfyui": version, "weights": "host_z_image.transformer()"})


if __name__ == "__main__":
    main()
