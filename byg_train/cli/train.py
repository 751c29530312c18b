"""The default command: check everything, then train."""

from __future__ import annotations

import logging
import shlex
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from ..config import PRESETS, ConfigError, TrainConfig, merge_settings
from ..family import demos, family_of, is_embedded
from ..files import held
from ..progress import CONSOLE
from ..training.processes import check_shares, processes
from ..training.stopping import NOTHING_LOST, stops_at_once
from .card import Card
from .errors import (
    full_disk_explained,
    interruption_explained,
    others_are_quiet,
    out_of_memory_explained,
)
from .options import Assignments, Device, Profile, resolve_device

if TYPE_CHECKING:
    from ..data.items import Dataset
    from ..training.forecast import Forecast
    from ..world.demo import Demo

log = logging.getLogger("byg_train")

LOWER = (
    "start anew with a lower train.batch_size, data.resolution, data.frames (of clips) or "
    "lora.rank, or with model.gradient_checkpointing=true or optimizer.name=adamw8bit"
)


def train(
    context: typer.Context,
    preset: Annotated[str | None, Option(help=f"What to train: {', '.join(PRESETS)}.")] = None,
    profile: Profile = None,
    data: Annotated[Path | None, Option(help="Folder with your pictures or clips.")] = None,
    output: Annotated[Path | None, Option(help="Folder of the run; default: runs/PRESET.")] = None,
    model: Annotated[
        str | None, Option(help="Base model: hub id, diffusers folder or .safetensors file.")
    ] = None,
    steps: Annotated[int | None, Option(help="Optimiser steps after the warm-up.")] = None,
    seed: Annotated[int | None, Option(help="Seed of weights, order, noise, times.")] = None,
    init: Annotated[
        Path | None,
        Option(help="LoRA to start from, such as ByG's for a four-step editor; no warm-up then."),
    ] = None,
    assignments: Assignments = None,
    config: Annotated[
        Path | None, Option(help="TOML file of settings, as --print-config prints.")
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue the run in the output folder.")
    ] = False,
    vram: Annotated[
        str | None,
        Option(help="Choose settings for a GPU of 12, 16, 24, 48 or 80 GB, or auto; --set wins."),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; load nothing.")] = False,
    print_config: Annotated[
        bool, Option("--print-config", help="Print every setting as TOML.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train an editing LoRA from unpaired pictures: python -m byg_train --preset demo."""
    if context.invoked_subcommand:
        _refuse_options_of_training(context)
        return
    others_are_quiet()
    if not preset and not config:
        raise ConfigError(f"--preset or --config is missing (presets: {', '.join(PRESETS)})")
    settings = merge_settings(
        preset, profile=profile, file=config, data=data, model=model, steps=steps, seed=seed,
        init=init, assignments=assignments or (),
    )  # fmt: skip
    demo = settings.preset in demos() and settings.data.path is None
    card = Card(vram, assignments or ())
    if card.vram and (print_config or (settings.data.path is None and not demo)):
        settings = card.fitted(settings, None, resolve_device(device))
    if print_config:
        from ..training.run_folder import to_toml

        typer.echo(f'# "null": no value\n{to_toml(settings)}', nl=False)
    elif settings.data.path is None and not demo:
        _explain_needs(settings)
        raise typer.Exit(2)
    elif dry_run:
        _dry_run(settings.with_dtype(_planned_dtype(settings, device)), demo, card, device)
    else:
        folder = (output or Path("runs") / settings.preset).resolve()
        check_shares(settings)
        with interruption_explained(), processes().joined():
            _start(settings, folder, device, resume, demo, card)


def _refuse_options_of_training(context: typer.Context) -> None:
    """Options before a command belong to training; to drop them silently would mislead."""
    given = [
        option.opts[0]
        for option in context.command.params
        if context.get_parameter_source(option.name).name == "COMMANDLINE"
    ]
    if given:
        command = context.invoked_subcommand
        raise ConfigError(f"{given[0]} must stand after {command!r}, or not at all")


def _start(
    config: TrainConfig, output: Path, device: str, resume: bool, demo: bool, card: Card
) -> None:
    """Machine, data, output folder, disk, base, warm-up: checked in this order, then trained."""
    with stops_at_once(NOTHING_LOST):
        from ..data.pairs import for_objective
        from ..models.backbone import pixel_multiple, resolve_base
        from ..training.checks import check_machine, check_start
        from ..training.run_folder import CONFIG, HoldsRunError, check_output
        from .clip_table import load_shown

        device = resolve_device(device)
        check_machine(config)
        try:
            if demo:
                resolve_base(config.model)
                config = _with_data(config, output / "data")
                # The data are its own, and lie where the run does.
                check_output(output, config, resume=resume, unmoved={"data.path"})
                with processes().main_first():
                    _world(config).prepare(config.data.path)
            multiple = pixel_multiple(config.model)
            data = for_objective(load_shown(config.data, multiple), config, multiple)
            if card.vram:
                run = output if resume and (output / CONFIG).exists() else None
                config = card.fitted(config, data, device, run)
                check_machine(config)
            check_start(config, data, output, device, resume=resume)
        except HoldsRunError as error:
            raise ConfigError(f"{error} (--resume)") from None
    # A start that failed leaves measurements behind, which `resume` clears away.
    resume = processes().of_main(lambda: resume or (output / CONFIG).exists())
    with held(output / ".running") if processes().is_main else nullcontext(True) as is_alone:
        if not is_alone:
            raise ConfigError(f"another run writes to {output} now: wait, or choose another folder")
        _train(config, data, output, device, resume, demo)


def _train(
    config: TrainConfig, data: Dataset, output: Path, device: str, resume: bool, demo: bool
) -> None:
    with stops_at_once(NOTHING_LOST):
        from ..training.origin import write_origin
        from ..training.plan import need_here
        from ..training.run_folder import changes, holds_weights, write_config, write_dropped
        from ..training.trainer import TrainingError, train  # takes seconds

        changed = processes().of_main(
            lambda: changes(output, config) if holds_weights(output) else []
        )
        if processes().is_main:
            for change in changed:
                log.warning("%s", change)
            write_config(output, config)
            write_origin(output, config, data)
            write_dropped(output, data)
    try:
        with full_disk_explained(output, "with --resume"), out_of_memory_explained(LOWER):
            files = train(
                config,
                data,
                output,
                device=device,
                resume=resume,
                forecast=_forecast(config, data, demo),
                planned=need_here(config, data, device),
                reweigh=any(change.startswith("method.") for change in changed),
            )
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if not processes().is_main:
        return
    farewell = _farewell(config, files, output)
    if demo:
        with stops_at_once(f"the training is complete, but not measured\n{farewell}"):
            from ..world.report import report

            report(output, _world(config).judge, device)
    typer.echo(farewell)


def _forecast(config: TrainConfig, data: Dataset, demo: bool) -> Forecast:
    """What will say how long the run takes; a demo is measured after it."""
    from ..models.backbone import pixel_multiple
    from ..training.forecast import Forecast
    from ..training.plan import run_cost

    cost, later = run_cost(config, pixel_multiple(config.model), data), 0.0
    if demo:
        from ..world.report import report_cost

        later = report_cost(_world(config).judge, config.sample.steps, cost.r)
    return Forecast(config, cost.step, later)


def _farewell(config: TrainConfig, files: list[Path], output: Path) -> str:
    """What there is now, and what may be typed next."""
    from ..training.run_folder import newest_samples

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


def _planned_dtype(config: TrainConfig, device: str) -> str:
    """What a plan counts in: this device's type, but a GPU's where a large base has no GPU here."""
    from ..machine import resolve_dtype

    resolved = resolve_device(device)
    if device == "auto" and resolved == "cpu" and not is_embedded(config.model.path):
        return config.model.dtype
    return resolve_dtype(config.model.dtype, resolved)


def _dry_run(config: TrainConfig, demo: bool, card: Card, device: str) -> None:
    from rich.console import Console

    from ..models.backbone import pixel_multiple
    from ..training.plan import plan
    from .clip_table import load_shown

    multiple = pixel_multiple(config.model)
    with tempfile.TemporaryDirectory() as folder:
        if demo:
            config = _with_data(config, Path(folder) / "data")
            _world(config).prepare(config.data.path)
        data = load_shown(config.data, multiple)
        table = plan(card.fitted(config, data, resolve_device(device)), multiple, data)
    Console().print(table)


def _explain_needs(config: TrainConfig) -> None:
    """What a preset without --data wants, its plan, and what runs now."""
    from ..data.media_kind import kind_of
    from ..data.rows import layouts
    from ..models.backbone import pixel_multiple
    from ..training.plan import plan

    kind = kind_of(config.data)
    CONSOLE.print(
        f"Preset {config.preset} trains on your {kind.many}: pass --data DATA, a folder in one of "
        f"two layouts.\n\n{layouts('DATA', kind)}\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    CONSOLE.print(plan(config, pixel_multiple(config.model), None))
    base = family_of(config.model.family).embedded
    if base is None:
        return
    command = f"python -m byg_train --preset {base.preset}"
    CONSOLE.print(f"\nWithout any data, this runs now: {command}", markup=False, highlight=False)
