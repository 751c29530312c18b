"""Settings for the memory of a GPU: the fastest and most exact ones that the plan says fit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from ..config import PRESETS, ConfigError, TrainConfig, assigned, build_config, load_preset
from ..family import family_of
from ..models.networks import network
from .cost import fetching, step_cost
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
    "model.placement": {(): 1.0, ("model.placement=streamed",): 1.0},  # its time is counted
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
# The settings that are chosen.
NAMES = {s.split("=")[0] for knob in KNOBS.values() for choice in knob for s in choice}


class FittedSettings(NamedTuple):
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


def choose(config: TrainConfig, s: Shapes, room: float, typed: Collection[str]) -> FittedSettings:
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


def said(fit: FittedSettings, room: float) -> str:
    """What was chosen and what it costs, in a sentence."""
    how = "".join(f" --set {setting}" for setting in fit.settings) or " the preset as it is"
    return (
        f"For this memory:{how}. About {fit.bytes / GB:.1f} of {room / GB:.1f} GB; a step takes "
        f"about {_time(fit):.2f} times as long as without any limit"
    )


def _time(fit: FittedSettings) -> float:
    """Return the time alone that `cost` names: a smaller rank takes no longer."""
    ranks = {s: factor for s, factor in KNOBS["lora.rank"].items() if s and s[0] in fit.settings}
    return fit.cost / next(iter(ranks.values()), 1.0)


def _all(config: TrainConfig, s: Shapes, typed: Collection[str]) -> Iterator[FittedSettings]:
    r = 0.5  # of the base's forward; it is the same on both sides of a ratio
    net = network(config.model)
    forward = net.forward_flops(net.sequence(s.text, s.mean_image, source=True))
    unlimited = (f"{CHECKPOINTING}=false", "model.boundaries_on_cpu=false")
    fastest = step_cost(_with(config, unlimited), r).mean
    for picks in product(*(_choices(config, knob, typed) for knob in KNOBS)):
        settings = tuple(setting for pick, _ in picks for setting in pick)
        if "model.placement=streamed" in settings and _stored(config, settings):
            continue  # it moves plain weights alone
        one = _with(config, settings)
        if "model.keep_attention=true" in settings and not one.model.gradient_checkpointing:
            continue  # all is kept
        cost = step_cost(one, r).mean / fastest * fetching(one, net, forward)
        for _, factor in picks:
            cost *= factor
        yield FittedSettings(settings, one, need(one, s).total, cost)


def _stored(config: TrainConfig, settings: tuple[str, ...]) -> bool:
    """Whether weights are in 8 or 4 bits."""
    chosen = any(setting.startswith("model.storage=") for setting in settings)
    return chosen or config.model.storage != "bf16"


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
    if knob == "model.storage" and config.model.placement != "whole":
        found = found[:1]
    elif knob == "model.storage" and config.model.compile:
        found = [(s, f) for s, f in found if "fp8" not in "".join(s)]
    return found


def set_by_hand(config: TrainConfig, assignments: Sequence[str]) -> set[str]:
    """The settings that a person typed, or wrote into a file: other than their preset has them."""
    typed = {assignment.partition("=")[0].strip() for assignment in assignments}
    preset = build_config(load_preset(config.preset) if config.preset in PRESETS else {})
    return typed | {name for name in NAMES if _value(config, name) != _value(preset, name)}


def as_before(config: TrainConfig, run: TrainConfig, by_hand: Collection[str] = ()) -> TrainConfig:
    """A resumed run keeps what was chosen for it, on whatever card it goes on."""
    kept = {name: _value(run, name) for name in NAMES - set(by_hand)}
    return _with(config, tuple(f"{name}={json.dumps(value)}" for name, value in kept.items()))


def _value(config: TrainConfig, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


def _with(config: TrainConfig, settings: tuple[str, ...]) -> TrainConfig:
    return build_config(assigned(config.model_dump(), settings))
