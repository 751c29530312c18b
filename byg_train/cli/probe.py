"""`probe`: what the base says about the data, and where the weights of a run would lead."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ConfigError, TrainConfig, merge_settings
from ..config.methods import SupervisedConfig
from ..family import demos
from ..progress import Progress
from ..training.stopping import stops_at_once
from .card import Card
from .errors import expect_writable, interruption_explained, out_of_memory_explained
from .options import Assignments, Device, Profile, names_of, resolve_device

if TYPE_CHECKING:
    from ..data.items import Dataset
    from ..training.probe import Probe

log = logging.getLogger("byg_train")

# Items of a folder; edits of each type, where the world draws them.
ITEMS, OF_EACH = 16, 12


def probe(
    preset: Annotated[str | None, typer.Option(help="Preset that will be trained.")] = None,
    profile: Profile = None,
    data: Annotated[Path | None, typer.Option(help="Folder with your pictures or clips.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of probe.png and .json; default: runs/PRESET-probe.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model: hub id, diffusers folder or .safetensors file.")
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Items that are looked at, in turn of every edit type; default: 16, and of the "
            "tiny world 12 of each type.",
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(help="Noise levels, as 0.95,0.6,0.2; default: eight, spread as training is."),
    ] = None,
    assignments: Assignments = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, as --print-config prints.")
    ] = None,
    vram: Annotated[
        str | None,
        typer.Option(help="Load the base as training will on a GPU of 12, 16, 24, 48 or 80 GB."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Ask the base, before a long training: do the weights want edits, or text-to-image?"""
    if not preset and not config:
        raise ConfigError("--preset or --config is missing: which training is meant?")
    settings = merge_settings(
        preset, profile=profile, file=config, data=data, model=model, assignments=assignments or ()
    )
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("probe draws its picture with matplotlib: pip install matplotlib")
    from ..training.probe import expect_prior

    expect_prior(settings)
    chosen, device = _times(times), resolve_device(device)
    folder = output or Path("runs") / f"{settings.preset}-probe"
    expect_writable(folder)
    card = Card(vram, assignments or ())
    advice = (
        "lower data.resolution or data.frames, say --vram, or choose --set model.placement=streamed"
    )
    stopped = "stopped; a probe keeps nothing until it is done, but for what was encoded"
    with interruption_explained(), stops_at_once(stopped), out_of_memory_explained(advice):
        settings, found = _items(settings, folder, items)
        settings = card.fitted(settings, found, device)
        _show(_measured(settings, found, device, chosen), folder)


def _times(text: str | None) -> list[float]:
    try:
        times = [float(word) for word in names_of(text or "")]
    except ValueError:
        times = [-1.0]
    if not all(0.001 <= t <= 1 for t in times):
        raise ConfigError(f"--times {text}: wanted numbers from 0.001 to 1, as 0.95,0.6,0.2")
    return list(dict.fromkeys(round(t, 3) for t in times))  # `prior_by_t` has three decimals


def _items(config: TrainConfig, folder: Path, number: int | None) -> tuple[TrainConfig, Dataset]:
    """The items to look at, with their true edits where every row names one."""
    from dataclasses import replace

    from ..data import DataError, counted
    from ..data.pairs import FIELD, for_objective
    from ..models.backbone import pixel_multiple, resolve_base
    from ..training.probe import some_of
    from ..training.run_folder import DROPPED, write_dropped
    from .clip_table import load_shown

    if config.data.path is None:
        if config.preset not in demos():
            raise ConfigError(f"preset {config.preset} has no data of its own: --data FOLDER")
        from ..world.demo import WHOLE

        # Not `data`, where a demo's training finds what it trains on.
        edits = folder / f"{config.preset}-edits"
        path = WHOLE[config.preset].prepare_probe(edits, OF_EACH)
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": path})})
        number = number or OF_EACH * len(WHOLE[config.preset].judge.labels)
    multiple = pixel_multiple(config.model)
    data = for_objective(load_shown(config.data, multiple), config, multiple)
    resolve_base(config.model)
    data = replace(data, train=some_of([*data.train, *data.test], number or ITEMS, config.seed))
    known = sum(bool(item.target_name) for item in data.train)
    if 0 < known < len(data.train):
        log.warning(
            "%s of the %s items name a %s: FlowEdit's edits stand for all of them",
            known,
            len(data.train),
            FIELD,
        )
    if known == len(data.train):
        pairs = config.model_copy(update={"method": SupervisedConfig()})
        try:
            data = for_objective(data, pairs, multiple)
        except DataError as error:
            found = f"{len(error.problems)} of the {known} true edits that {FIELD} names"
            raise DataError(
                f"{found} cannot be read: mend them, or leave the column out everywhere, and "
                "FlowEdit's edits stand for them",
                error.problems,
            ) from None
    if data.problems:
        folder.mkdir(parents=True, exist_ok=True)
        write_dropped(folder, data)
        left = counted(len(data.problems), "item")
        log.warning("looking without %s that cannot be used: %s", left, folder / DROPPED)
    return config, data


def _measured(config: TrainConfig, data: Dataset, device: str, chosen: list[float]) -> Probe:
    """The probe, with an ETA."""
    from ..machine import resolve_dtype
    from ..training.probe import probe as measure

    config = config.with_dtype(resolve_dtype(config.model.dtype, device))
    with ExitStack() as stack:

        def started(total: int) -> Callable[[int], None]:
            return stack.enter_context(Progress(total, "probing")).advance

        return measure(config, data, device, chosen=chosen, started=started)


def _show(found: Probe, folder: Path) -> None:
    """Write the picture and the numbers; print the table and what follows from it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..data import counted
    from ..files import write_json
    from ..training.probe_plot import plot
    from ..training.probe_report import about, rows, verdict

    folder.mkdir(parents=True, exist_ok=True)
    plot(found, folder / "probe.png")
    write_json(folder / "probe.json", about(found))
    heads, *body = rows(found)
    edits = "true edits" if found.has_truth else "FlowEdit's edits"
    title = f"{counted(len(found.kinds), 'item')}, {edits}; pairs are L_dir / L_MSE"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in heads:
        table.add_column(head, justify="right")
    for row in body:
        table.add_row(*row)
    Console().print(table)
    for sentence in verdict(found):
        typer.echo(f"- {sentence}")
    typer.echo(f"The curves are in {folder / 'probe.png'}, all numbers in {folder / 'probe.json'}.")
