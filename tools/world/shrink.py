"""Round the matrices of a tiny base's transformers to 8 bits, as fp8 files for ComfyUI are.

    python -m tools.world.shrink byg_train/world/base_z_image

The files are half as large, and loaded as before: whoever reads them asks for a type. Vectors keep
theirs. What it does to edits is in docs/decisions.md. Where the parts came from is forgotten: no
folder of another machine belongs in what is published.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from byg_train.files import atomic, write_text

CAME_FROM = "_name_or_path"  # diffusers' note of the folder that a part was loaded from


def shrink(base: Path) -> None:
    """Rewrite the transformers of a folder in diffusers' layout; a second time changes nothing."""
    for file in base.glob("transformer*/*.safetensors"):
        weights = {name: rounded(weight) for name, weight in load_file(file).items()}
        with atomic(file) as temporary:
            save_file(weights, temporary, {"format": "pt"})
    for file in base.glob("*/config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop(CAME_FROM, None) is not None:
            write_text(file, json.dumps(config, indent=2, sort_keys=True) + "\n")


def rounded(weight: Tensor) -> Tensor:
    """A matrix in float8_e4m3fn without a scale; anything else as it is."""
    return weight.to(torch.float8_e4m3fn) if min(weight.shape) > 1 < weight.ndim else weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    shrink(parser.parse_args().base)


if __name__ == "__main__":
    main()
