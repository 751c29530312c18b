"""The command line: options and commands; one file for each command beside this one."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Column, Table
from typer.core import TyperGroup

from ..config import PRESETS, ConfigError, build_config, load_preset
from ..data import DataError
from ..machine import settle_threads
from ..progress import CONSOLE
from .data import data_app
from .edit import edit
from .evaluate import evaluate_app
from .options import Device
from .study import study

app = typer.Typer(pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of `python -m byg_train`."""
    settle_threads()
    logger = logging.getLogger("byg_train")
    logger.setLevel(logging.INFO)
    logger.addHandler(RichHandler(console=CONSOLE, show_path=False, log_time_format="%X"))
    _quiet_libraries()
    # Shells can complete the installed command `byg_train`, but not `python -m byg_train`.
    completion = {"--install-completion", "--show-completion"} & set(sys.argv)
    app(prog_name="byg_train" if completion else None)


def _quiet_libraries() -> None:
    """Drop what libraries warn of and nobody can act on; what may be wrong is still told."""
    imports = logging.getLogger("transformers.utils.import_utils")
    imports.addFilter(lambda record: "requires torchvision" not in record.getMessage())
    # A slower kernel for bf16 states under float32 norms, with the same result.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")


@contextmanager
def plain_errors() -> Iterator[None]:
    """A mistake in what was asked is one sentence and exit code 2, without a traceback.

    So is a file that the system refuses; a closed pipe is click's business.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (ConfigError, DataError, OSError) as error:
        typer.echo(f"error: {_sentence(error)}", err=True)
        raise typer.Exit(2) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


class PlainGroup(TyperGroup):
    """Commands of one subject, whose mistakes are sentences too."""

    def invoke(self, context: typer.Context) -> object:
        """Run the command that was named."""
        with plain_errors():
            return super().invoke(context)


app.add_typer(data_app, name="data", cls=PlainGroup)
app.add_typer(evaluate_app, name="evaluate", cls=PlainGroup)


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Option(help=f"What to train: {', '.join(PRESETS)}.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with your pictures.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/PRESET if not given.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base: hub id, diffusers folder or .safetensors file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps after the warm-up.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds everything.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting; may be repeated."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, as --print-config prints.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan; load nothing.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print every setting as TOML.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train an editing LoRA from unpaired pictures: python -m byg_train --preset demo."""
    if context.invoked_subcommand:
        _refuse_options_of_training(context)
        return
    from .settings import Flags
    from .train import Run, run_training

    with plain_errors():
        run_training(
            Flags(preset, config, data, model, steps, seed, assignments or []),
            Run(output, device, resume, dry_run, print_config),
        )


def _refuse_options_of_training(context: typer.Context) -> None:
    """Options before a command belong to training; to drop them silently would mislead."""
    given = [
        option.opts[0]
        for option in context.command.params
        if context.get_parameter_source(option.name).name == "COMMANDLINE"
    ]
    if given:
        command = context.invoked_subcommand
        typer.echo(f"error: {given[0]} must stand after {command!r}, or not at all", err=True)
        raise typer.Exit(2)


@app.command()
def presets() -> None:
    """List the presets."""
    table = Table(Column("preset", no_wrap=True), "for", Column("base", no_wrap=True), "steps")
    for name in PRESETS:
        config = build_config(load_preset(name))
        table.add_row(name, config.description, config.model.path, str(config.train.steps))
    Console().print(table)


app.command()(plain_errors()(edit))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    weights: Annotated[str, typer.Option(help="live, or ema: the slow average.")] = "live",
    step: Annotated[int | None, typer.Option(help="Of this step; the newest if not given.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; RUN/export if not given.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the files; the run's if not given.")] = None,
) -> None:
    """Pack a run's LoRA to share: the file, a card, a preview and a ComfyUI workflow."""
    with plain_errors():
        from ..export.run import export_run

        written = export_run(run, weights=weights, step=step, output=output, name=name)
        typer.echo("\n  ".join(map(str, ("Written:", *written))))


app.command()(plain_errors()(study))


@app.command()
def ablate(
    preset: Annotated[str, typer.Option(help="Of the embedded world.")] = "demo",
    output: Annotated[Path, typer.Option(help="Folder of all runs and of the table.")] = Path(
        "runs/ablation"
    ),
    seeds: Annotated[int, typer.Option(help="Runs of every row.", min=1)] = 3,
    steps: Annotated[
        int | None, typer.Option(help="Of every run; the preset's if not given.", min=1)
    ] = None,
    only: Annotated[str, typer.Option(help="Rows A,B; `baselines` is one of them.")] = "",
    jobs: Annotated[int, typer.Option(help="Runs at once; they share the cores.", min=1)] = 1,
    queries: Annotated[int, typer.Option(help="Held-out edits of each type.", min=1)] = 32,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting, for every row."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Train every row of the paper's Table 4 on the embedded world; finished runs are kept."""
    with plain_errors():
        from .ablate import AblateFlags, run_ablation

        rows = [name.strip() for name in only.split(",") if name.strip()]
        run_ablation(
            AblateFlags(
                preset=preset,
                output=output,
                seeds=seeds,
                steps=steps,
                only=rows,
                jobs=jobs,
                queries=queries,
                device=device,
                assignments=assignments or [],
            )
        )


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The same facts as JSON.")] = False,
) -> None:
    """Say what this machine is, what was chosen for it, how fast it is and what fits on it."""
    with plain_errors():
        from .doctor import run_doctor

        run_doctor(as_json=as_json)


@app.command()
def bench(
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="Items per step.", min=1)] = 8,
) -> None:
    """Measure what a training step costs on this machine."""
    with plain_errors():
        from ..training.bench import run, show
        from .settings import resolve_device

        show(run(resolve_device(device), batch))
