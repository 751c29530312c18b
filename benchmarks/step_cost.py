"""Print the cost of a training step on this machine as a markdown table.

python benchmarks/step_cost.py [--device cpu|cuda] [--batch 8] [--model world] [--preset demo]
    [--profile fast]
"""

from __future__ import annotations

import typer

from byg_train.training.bench import markdown, run


def main(
    device: str = "cpu",
    batch: int = 8,
    model: str = "world",
    repeats: int = 5,
    preset: str = "demo",
    profile: str | None = None,
) -> None:
    """Full step, supervised step and the step's own parts, interleaved in one process."""
    typer.echo(markdown(run(device, batch, model, repeats, preset, profile)))


if __name__ == "__main__":
    typer.run(main)
