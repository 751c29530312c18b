"""What more GPUs are worth, by arithmetic: `python -m benchmarks.scaling`. Runs nothing on a GPU.

A step on N GPUs takes the forwards of the rows that each has, and then the sum of the LoRA's
gradients: in a ring each link carries it twice. Between machines every link is one of theirs.
"""

from __future__ import annotations

from typing import NamedTuple

from byg_train.config import build_config, load_preset
from byg_train.models.backbone import pixel_multiple
from byg_train.models.networks import network
from byg_train.training.cost import GPUS, SUSTAINED
from byg_train.training.plan import run_cost

H100 = SUSTAINED * GPUS["H100"].tflops * 1e12
NUMBERS = (1, 8, 64, 512)
# Bytes per second: NVLink in a machine; between machines, of eight GPUs each, one network card.
WITHIN = 350e9
BETWEEN = {"400 Gb/s": 50e9, "10 Gb/s": 1.25e9}


class Row(NamedTuple):
    """A preset on so many GPUs, at one row per GPU or the preset's own batch."""

    preset: str
    gpus: int
    rows: int  # per optimiser step
    gradients: float  # bytes, of all experts
    compute: float  # seconds of a step
    sums: dict[str, float]  # seconds of the sum of gradients, by the network's speed


def row(preset: str, gpus: int) -> Row:
    config = build_config(load_preset(preset))
    cost = run_cost(config, pixel_multiple(config.model), None)
    rows = max(config.train.global_batch, gpus)
    gradients = 4.0 * network(config.model).lora_parameters(config.lora.rank)
    links = {"NVLink": WITHIN} if gpus <= 8 else BETWEEN
    carried = 2 * (gpus - 1) / gpus * gradients
    return Row(
        preset,
        gpus,
        rows,
        gradients,
        rows / gpus * cost.step.mean * cost.forward / H100,
        {name: carried / speed for name, speed in links.items()},
    )


def main() -> None:
    print("preset | H100s | rows per step | gradients, GB | passes, s | their sum, s")  # noqa: T201
    for preset in ("flux_edit", "z_image_edit", "wan22_style"):
        for gpus in NUMBERS:
            r = row(preset, gpus)
            sums = ", ".join(f"{seconds:.3g} ({name})" for name, seconds in r.sums.items())
            numbers = f"{r.rows} | {r.gradients / 1e9:.2f} | {r.compute:.1f}"
            print(f"{r.preset} | {r.gpus} | {numbers} | {sums if gpus > 1 else '-'}")  # noqa: T201


if __name__ == "__main__":
    main()
