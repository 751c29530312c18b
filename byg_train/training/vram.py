"""Settings for the memory of a GPU: the fastest and most exact ones that the plan says fit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import product
from typing import NamedTuple

from ..config import ConfigError, TrainConfig, build_config, merged, parse_set
from ..family import family_of
from .cost import step_cost
from .fitting import FRAMEWORK, MARGIN
from .plan import Shapes, need
from .words import GB

CARDS = ("12", "16", "24", "48", "80")
GIB = 2**30
# Group of settings -> its choices, each with the times as long that a step takes by our measure of
# their cost; what changes or rounds the model counts as time too. Checkpointing's time is counted.
CHECKPOINTING = "model.gradient_checkpointing"
KNOBS: dict[str, dict[tuple[str, ...], float]] = {
    "model.storage": {(): 1.0, ("model.storage=fp8",): 1.15, ("model.storage=nf4",): 1.5},
    CHECKPOINTING: {
        (f"{CHECKPOINTING}=false",): 1.0,
        (f"{CHECKPOINTING}=true", "model.checkpointed_blocks=0.5"): 1.0,
        (f"{CHECKPOINTING}=true", "model.checkpointed_blocks=1.0"): 1.0,
        (
            f"{CHECKPOINTING}=true",
            "model.checkpointed_blocks=1.0",
            "model.boundaries_on_cpu=true",
        ): 1.1,
    },
    "model.keep_attention": {(): 1.0, ("model.keep_attention=true",): 0.95},
    "optimizer.name": {(): 1.0, ("optimizer.name=adamw8bit",): 1.05},
    "lora.rank": {(): 1.0, ("lora.rank=32",): 1.3, ("lora.rank=16",): 1.7},
}


class Fit(NamedTuple):
    """Settings, and what they cost."""

    settings: tuple[str, ...]
    config: TrainConfig
    bytes: float
    cost: float  # times the fastest that there is, quality counted as time


def room_of(vram: str, device: str) -> float:
    """Bytes for a run on a card of so many GiB, or for `auto` on the GPU at hand."""
    if vram == "auto":
        if device == "cpu":
            raise ConfigError(f"--vram auto asks the GPU, and there is none: say {_cards()}")
        from .fitting import room_for_a_step

        return room_for_a_step(device)
    if vram not in CARDS:
        raise ConfigError(f"--vram {vram}: wanted auto, {_cards()}")
    return int(vram) * GIB * (1 - MARGIN) - FRAMEWORK


def _cards() -> str:
    return f"{', '.join(CARDS[:-1])} or {CARDS[-1]}"


def choose(config: TrainConfig, s: Shapes, room: float, typed: Collection[str]) -> Fit:
    """The cheapest settings with which a run fits; ConfigError where none do.

    Args:
        config: the run as it was asked for.
        s: the sizes of its items.
        room: bytes on the device.
        typed: names of settings that a person chose, which stay.
    """
    fits = sorted(_all(config, s, typed), key=lambda fit: fit.cost)
    for fit in fits:
        if fit.bytes <= room:
            return fit
    least = min(fits, key=lambda fit: fit.bytes)
    frames = " or data.frames" if family_of(config.model.family).is_video else ""
    raise ConfigError(
        f"{config.preset} needs about {least.bytes / GB:.1f} GB at least (with "
        f"{' '.join(least.settings)}), and there are {room / GB:.1f}: lower data.resolution{frames}"
    )


def said(fit: Fit, room: float) -> str:
    """What was chosen and what it costs, in a sentence."""
    how = "".join(f" --set {setting}" for setting in fit.settings) or " the preset as it is"
    return (
        f"For this memory:{how}. About {fit.bytes / GB:.1f} of {room / GB:.1f} GB; a step takes "
        f"about {_time(fit):.2f} times as long as without any limit"
    )


def _time(fit: Fit) -> float:
    """Of `cost`, time alone: a smaller rank takes no longer."""
    ranks = {s: factor for s, factor in KNOBS["lora.rank"].items() if s and s[0] in fit.settings}
    return fit.cost / next(iter(ranks.values()), 1.0)


def _all(config: TrainConfig, s: Shapes, typed: Collection[str]) -> Iterator[Fit]:
    r = 0.5  # of the base's forward; it is the same on both sides of a ratio
    fastest = step_cost(_with(config, (f"{CHECKPOINTING}=false",)), r).mean
    for picks in product(*(_choices(config, knob, typed) for knob in KNOBS)):
        settings = tuple(setting for pick, _ in picks for setting in pick)
        if f"{CHECKPOINTING}=false" in settings and "model.keep_attention=true" in settings:
            continue  # all is kept
        one = _with(config, settings)
        cost = step_cost(one, r).mean / fastest
        for _, factor in picks:
            cost *= factor
        yield Fit(settings, one, need(one, s).total, cost)


def _choices(
    config: TrainConfig, knob: str, typed: Collection[str]
) -> list[tuple[tuple[str, ...], float]]:
    """A knob's choices; none but the present one where a person has set it, or it is not useful."""
    own = {setting.split("=")[0] for settings in KNOBS[knob] for setting in settings}
    is_video = family_of(config.model.family).is_video
    if own & set(typed) or (knob == "model.keep_attention" and not is_video):
        return [((), 1.0)]
    found = list(KNOBS[knob].items())
    if knob == "lora.rank":
        found = [(s, f) for s, f in found if not s or int(s[0].split("=")[1]) < config.lora.rank]
    if knob == "model.storage" and config.model.compile:
        found = [(s, f) for s, f in found if "fp8" not in "".join(s)]
    return found


def as_before(config: TrainConfig, run: TrainConfig) -> TrainConfig:
    """A resumed run keeps what was chosen for it, on whatever card it goes on."""
    own = {setting.split("=")[0] for knob in KNOBS.values() for one in knob for setting in one}
    found = run.model_dump()
    values = {name: found[name.split(".")[0]][name.split(".")[1]] for name in own}
    return _with(config, tuple(f"{name}={json.dumps(value)}" for name, value in values.items()))


def _with(config: TrainConfig, settings: tuple[str, ...]) -> TrainConfig:
    tables = config.model_dump()
    for setting in settings:
        tables = merged(tables, parse_set(setting))
    return build_config(tables)
