"""The default command: check everything, then train."""

from __future__ import annotations

import errno
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ..backbones.flux import pixel_multiple, resolve_base
from ..config import ConfigError, TrainConfig
from ..data.items import LAYOUTS, load_items
from ..data.pictures import KINDS
from ..files import atomic
from ..progress import CONSOLE
from ..run_folder import check_output, to_toml, write_config
from .plan import all_items, check_disk, disk_need, plan, shapes
from .settings import Flags, resolve_device, settings

if TYPE_CHECKING:
    from ..data.items import Dataset

DEMO = "python -m byg_train --preset demo"


@dataclass(frozen=True)
class Run:
    """Where and how to run what `Flags` describe."""

    output: Path | None = None
    device: str = "auto"
    resume: bool = False
    dry_run: bool = False
    print_config: bool = False


def run_training(flags: Flags, run: Run) -> None:
    """Settings, data, output folder, disk, base model: checked in this order, then trained."""
    config = settings(flags)
    if run.print_config:
        typer.echo(f'# "null": no value\n{to_toml(config)}', nl=False)
        return
    demo = config.preset == "demo" and config.data.path is None
    if config.data.path is None and not demo:
        _explain_needs(config)
        raise typer.Exit(2)
    if run.dry_run:
        _dry_run(config, demo)
        return
    output = (run.output or Path("runs") / config.preset).resolve()
    if demo:
        config = _with_data(config, output / "data")
        check_output(output, config, resume=run.resume)
        _render_world(output / "data")
    multiple = pixel_multiple(config.model)
    data = load_items(config.data, multiple)
    check_output(output, config, resume=run.resume)
    check_disk(config, disk_need(config, shapes(config, multiple, data), all_items(data)), output)
    device = resolve_device(run.device)
    resolve_base(config.model)
    _train(config, data, output, device, run.resume)


def _train(config: TrainConfig, data: Dataset, output: Path, device: str, resume: bool) -> None:
    from ..stopping import Interrupted
    from ..trainer import TrainingError, train

    write_config(output, config)
    if data.problems:
        with atomic(output / "dropped.txt") as temporary:
            temporary.write_text("".join(f"{p}\n" for p in data.problems), encoding="utf-8")
    try:
        with _full_disk_explained(output):
            lora = train(config, data, output, device=device, resume=resume)
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(stop.code) from None
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if config.preset == "demo":
        from ..world.demo import report

        report(output, device)
    typer.echo(_farewell(lora, output))


def _farewell(lora: Path, output: Path) -> str:
    """What there is now, and what may be typed next."""
    here = output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output
    file, folder = (shlex.quote(str(path)) for path in (here / lora.name, here))
    return (
        f"\nThe LoRA is {file}; pictures are in {folder}/samples.\n"
        "Edit a picture, or pack the LoRA for ComfyUI:\n"
        f"  python -m byg_train edit --lora {file} --image photo.png \\\n"
        "      --instruction '...' --output edited.png\n"
        f"  python -m byg_train export {folder}"
    )


@contextmanager
def _full_disk_explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ConfigError(
            f"the disk is full ({error.filename or output}); every file written before is whole. "
            "Make room and run the same command with --resume"
        ) from None


def _with_data(config: TrainConfig, folder: Path) -> TrainConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"path": folder})})


def _render_world(folder: Path) -> None:
    from ..world.demo import prepare

    CONSOLE.print("Drawing the tiny world's training pictures ...")
    prepare(folder)


def _dry_run(config: TrainConfig, demo: bool) -> None:
    multiple = pixel_multiple(config.model)
    with tempfile.TemporaryDirectory() as folder:
        if demo:
            config = _with_data(config, Path(folder) / "data")
            _render_world(config.data.path)
        table = plan(config, multiple, load_items(config.data, multiple))
    Console().print(table)


def _explain_needs(config: TrainConfig) -> None:
    """What a preset without --data wants, its plan, and what runs now."""
    console = CONSOLE
    layouts = LAYOUTS.format(root="DATA", found="", kinds=KINDS).partition("\n\n")[2]
    console.print(
        f"Preset {config.preset} trains on your pictures: pass --data DATA, a folder in one of two "
        f"layouts.\n\n{layouts}\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(plan(config, pixel_multiple(config.model), None))
    console.print(f"\nWithout any data, this runs now: {DEMO}", markup=False, highlight=False)
