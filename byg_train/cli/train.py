"""The default command: check everything, then train."""

from __future__ import annotations

import importlib.util
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ..config import ConfigError, TrainConfig
from ..data.media_kind import kind_of
from ..data.pairs import for_objective
from ..data.rows import layouts
from ..family import family_of, is_embedded
from ..files import atomic
from ..machine import resolve_dtype
from ..models.backbone import pixel_multiple, resolve_base
from ..models.lora_file import read_lora
from ..progress import CONSOLE
from ..training.cost import trained_experts
from ..training.forecast import Forecast
from ..training.plan import all_items, check_disk, disk_need, plan, run_cost, shapes
from ..training.run_folder import CONFIG, check_output, newest_samples, to_toml, write_config
from ..training.stopping import NOTHING_LOST, stops_at_once
from .clip_table import load_shown
from .errors import full_disk_explained, interruption_explained, out_of_memory_explained
from .settings import Flags, resolve_device, settings

if TYPE_CHECKING:
    from ..data.items import Dataset
    from ..world.demo import Demo

# Presets that draw their data themselves (world/demo.py).
DEMOS = ("demo", "demo_video")
LOWER = (
    "start anew with a lower train.batch_size, data.resolution, data.frames (of clips) or "
    "lora.rank, or with model.gradient_checkpointing=true or optimizer.name=adamw8bit"
)


@dataclass(frozen=True)
class Run:
    """Where and how to run what `Flags` describe."""

    output: Path | None = None
    device: str = "auto"
    resume: bool = False
    dry_run: bool = False
    print_config: bool = False


def run_training(flags: Flags, run: Run) -> None:
    """Settings, data, output folder, disk, base, warm-up: checked in this order, then trained."""
    config = settings(flags)
    if run.print_config:
        typer.echo(f'# "null": no value\n{to_toml(config)}', nl=False)
        return
    demo = config.preset in DEMOS and config.data.path is None
    if config.data.path is None and not demo:
        _explain_needs(config)
        raise typer.Exit(2)
    if run.dry_run:
        _dry_run(config.with_dtype(_planned_dtype(config, run.device)), demo)
        return
    output = (run.output or Path("runs") / config.preset).resolve()
    with interruption_explained():
        with stops_at_once(NOTHING_LOST):
            device = resolve_device(run.device)
            config, data = _checked(config, output, device, demo, run.resume)
        # A start that failed leaves measurements behind, which `resume` clears away.
        resume = run.resume or (output / CONFIG).exists()
        _train(config, data, output, device, resume, demo)


def _checked(
    config: TrainConfig, output: Path, device: str, demo: bool, resume: bool
) -> tuple[TrainConfig, Dataset]:
    """The run's data, and its configuration with where they are."""
    _check_machine(config)
    if demo:
        resolve_base(config.model)
        config = _with_data(config, output / "data")
        check_output(output, config, resume=resume)
        _render_world(config)
    multiple = pixel_multiple(config.model)
    data = for_objective(load_shown(config.data, multiple), config, multiple)
    check_output(output, config, resume=resume)
    here = config.with_dtype(resolve_dtype(config.model.dtype, device))
    check_disk(config, disk_need(here, shapes(config, multiple, data), all_items(data)), output)
    resolve_base(config.model)
    _check_warmup(config)
    return config, data


def _check_machine(config: TrainConfig) -> None:
    """Packages and networks that only some settings need, and how many processes there are."""
    if not trained_experts(config):
        from ..training.assembly import one_network

        raise ConfigError(one_network(config))
    needed = {
        "bitsandbytes": ("optimizer.name=adamw8bit", config.optimizer.name == "adamw8bit"),
        "wandb": ("train.wandb=true", config.train.wandb),
    }
    for package, (setting, wanted) in needed.items():
        if wanted and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{setting} needs the {package} package, which is not installed: "
                f"pip install {package}, or change the setting"
            )
    # As `accelerate launch` and `torchrun` tell their processes.
    if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
        raise ConfigError(
            f"{os.environ['WORLD_SIZE']} processes were launched (WORLD_SIZE), but byg_train "
            "trains in one, on one GPU: start it with python -m byg_train"
        )


def _check_warmup(config: TrainConfig) -> None:
    """Refuse a LoRA that the run cannot start from, as far as this shows without the base."""
    name = config.warmup.lora
    if name is None:
        return
    from ..editing.opening import wrong_width
    from ..training.assembly import warmup_files

    instead = (
        "train your own warm-up: --set warmup.lora=null --set warmup.min_steps=300"
        if is_embedded(name)
        else "choose another, or set warmup.lora=null"
    )
    for path in warmup_files(config, trained_experts(config)).values():
        try:
            file = read_lora(path)
        except ValueError as error:
            raise ConfigError(f"warmup.lora {name!r}: {error}") from None
        ranks = {len(a) for key, a in file.tensors.items() if key.endswith(".lora_A.weight")}
        why = wrong_width(file, config.model)
        if not why and ranks != {config.lora.rank}:
            found = ", ".join(map(str, sorted(ranks)))
            why = f"its rank is {found}, lora.rank is {config.lora.rank}"
        if why:
            raise ConfigError(f"warmup.lora {name!r} does not fit this run ({why}); {instead}")


def _train(
    config: TrainConfig, data: Dataset, output: Path, device: str, resume: bool, demo: bool
) -> None:
    with stops_at_once(NOTHING_LOST):
        from ..training.trainer import TrainingError, train  # takes seconds

        write_config(output, config)
        if data.problems:
            with atomic(output / "dropped.txt") as temporary:
                temporary.write_text("".join(f"{p}\n" for p in data.problems), encoding="utf-8")
    try:
        with full_disk_explained(output, "with --resume"), out_of_memory_explained(LOWER):
            files = train(
                config,
                data,
                output,
                device=device,
                resume=resume,
                forecast=_forecast(config, data, demo),
            )
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    farewell = _farewell(config, files, output)
    if demo:
        with stops_at_once(f"the training is complete, but not measured\n{farewell}"):
            _world(config).report(output, device)
    typer.echo(farewell)


def _forecast(config: TrainConfig, data: Dataset, demo: bool) -> Forecast:
    """What will say how long the run takes; a demo is measured after it."""
    cost = run_cost(config, pixel_multiple(config.model), data)
    later = _world(config).report_cost(config.sample.steps, cost.r) if demo else 0.0
    return Forecast(config, cost.step, later)


def _farewell(config: TrainConfig, files: list[Path], output: Path) -> str:
    """What there is now, and what may be typed next."""
    here = output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output
    samples = here / newest_samples(output).relative_to(output)
    loras = [shlex.quote(str(here / file.name)) for file in files]
    a_picture, photo, edited = "a picture", "photo.png", "edited.png"
    if family_of(config.model.family).is_video:
        a_picture, photo, edited = "a clip", "clip.mp4", "edited.mp4"
        samples = samples.with_suffix(".mp4")
    folder, shown = (shlex.quote(str(path)) for path in (here, samples))
    alone = "" if config.train.expert == "both" else " --single-expert"
    return (
        f"\nThe LoRA is {' and '.join(loras)}; what it does to held-out items is in {shown}.\n"
        f"Edit {a_picture}, or pack the LoRA for ComfyUI:\n"
        f"  python -m byg_train edit --lora {loras[0]} --input {photo} \\\n"
        f"      --instruction '...' --output {edited}{alone}\n"
        f"  python -m byg_train export {folder}"
    )


def _with_data(config: TrainConfig, folder: Path) -> TrainConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"path": folder})})


def _world(config: TrainConfig) -> Demo:
    """What draws a demo's data and measures its run."""
    from ..world import demo

    return demo.DEMOS[config.preset]


def _render_world(config: TrainConfig) -> None:
    _world(config).prepare(config.data.path)


def _planned_dtype(config: TrainConfig, device: str) -> str:
    """What a plan counts in: this device's type, but a GPU's where a large base has no GPU here."""
    found = resolve_device(device)
    if device == "auto" and found == "cpu" and not is_embedded(config.model.path):
        return config.model.dtype
    return resolve_dtype(config.model.dtype, found)


def _dry_run(config: TrainConfig, demo: bool) -> None:
    multiple = pixel_multiple(config.model)
    with tempfile.TemporaryDirectory() as folder:
        if demo:
            config = _with_data(config, Path(folder) / "data")
            _render_world(config)
        table = plan(config, multiple, load_shown(config.data, multiple))
    Console().print(table)


def _explain_needs(config: TrainConfig) -> None:
    """What a preset without --data wants, its plan, and what runs now."""
    console = CONSOLE
    kind = kind_of(config.data)
    console.print(
        f"Preset {config.preset} trains on your {kind.many}: pass --data DATA, a folder in one of "
        f"two layouts.\n\n{layouts('DATA', kind)}\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(plan(config, pixel_multiple(config.model), None))
    base = family_of(config.model.family).embedded
    if base is None:
        return
    command = f"python -m byg_train --preset {base.preset}"
    console.print(f"\nWithout any data, this runs now: {command}", markup=False, highlight=False)
