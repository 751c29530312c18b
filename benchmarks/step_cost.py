"""Print the cost of a training step on this machine as a markdown table.

python benchmarks/step_cost.py [--device cpu|cuda] [--batch 8] [--model world] [--preset demo]
    [--profile fast] [--set method.lambda_id=0.2 ...]
"""

from __future__ import annotations

from typing import Annotated

import typer

from byg_train.evaluate import summary
from byg_train.training.bench import CostReport, run, table


def main(
    device: str = "cpu",
    batch: int = 8,
    model: str = "world",
    repeats: int = 5,
    preset: str = "demo",
    profile: str | None = None,
    assignments: Annotated[list[str], typer.Option("--set")] = (),
) -> None:
    """Full step, supervised step and the step's own parts, interleaved in one process."""
    typer.echo(markdown(run(device, batch, model, repeats, preset, profile, assignments)))


def markdown(report: CostReport) -> str:
    """The table for a document."""
    head, *body = table(report)
    return f"{report.setting}\n\n{summary.table(head, body)}"


if __name__ == "__main__":
    typer.run(main)
