"""`ablate`: all runs of the ablation study and their scores, several at once; a table, a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ..progress import CONSOLE
from ..training.stopping import stops_at_once
from .errors import interruption_explained
from .options import Assignments, Device, names_of, resolve_device


def ablate(
    preset: Annotated[str, Option(help="Preset of the embedded world.")] = "demo",
    output: Annotated[Path, Option(help="Folder of all runs and of the table.")] = Path(
        "runs/ablation"
    ),
    seeds: Annotated[int, Option(help="Number of runs of every row.", min=1)] = 3,
    steps: Annotated[
        int | None, Option(help="Steps of every run; default: the preset's.", min=1)
    ] = None,
    only: Annotated[
        str, Option(help="Rows A,B to run; `baselines` is one of them; default: all.")
    ] = "",
    jobs: Annotated[
        int, Option(help="Number of runs in parallel; they share the cores.", min=1)
    ] = 1,
    queries: Annotated[int, Option(help="Number of held-out edits of each type.", min=1)] = 32,
    assignments: Assignments = None,
    device: Device = "auto",
) -> None:
    """Train every row of the paper's Table 4 on the embedded world; finished runs are kept."""
    from ..world.ablation_study import AblationStudy, Job

    study = AblationStudy(
        preset, output, seeds=seeds, steps=steps, rows=names_of(only), queries=queries,
        assignments=assignments or (),
    )  # fmt: skip
    device = resolve_device(device)
    CONSOLE.print("Drawing the tiny world's training pictures, and their true edits ...")
    study.prepare()
    left = len(study.left())
    CONSOLE.print(f"{len(study.jobs) - left} of {len(study.jobs)} runs are there already")
    ended: dict[str, bool] = {}

    def on_end(job: Job, well: bool) -> None:
        ended[job.name] = well
        CONSOLE.print(f"{len(ended)}/{left} {job.name}: {'done' if well else 'failed'}")

    stopped = "stopped; every run goes on where it was with the same command"
    with interruption_explained(), stops_at_once(stopped):
        study.run(jobs, device, on_end)
    if table := study.write():
        typer.echo(table)
    failed = [str(study.log(job)) for job in study.jobs if ended.get(job.name) is False]
    if failed:
        typer.echo(f"error: {len(failed)} runs failed; see {', '.join(failed)}", err=True)
        raise typer.Exit(1)
