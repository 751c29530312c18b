"""What a run is: its sections together. Presets are TOML files of them, with "null" for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from ..family import family_of, titles
from ..text_files import TextFileError, read_text
from .critic import CriticConfig
from .methods import BygConfig, Method, method_class
from .names import nearest
from .sections import (
    DataConfig,
    GuidanceConfig,
    LoraSettings,
    ModelConfig,
    OptimizerConfig,
    RolloutConfig,
    SampleConfig,
    Section,
    TimeConfig,
    TrainSection,
    WarmupConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESET_FOLDER = Path(__file__).parents[1] / "presets"
# TOML has no null; a setting without a value is written, and read, as this word.
NULL = "null"


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which, what was found and what is known."""


class TrainConfig(Section):
    """The settings of one run."""

    preset: str = "custom"
    """Name of the preset this came from."""
    description: str = ""
    """What the preset is for, in a sentence."""
    source: str = ""
    """Where its numbers come from."""
    seed: int = Field(0, gt=-(2**62), lt=2**62)
    """Seeds everything: weights, order, noise, times."""
    model: ModelConfig = ModelConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    data: DataConfig = DataConfig()
    method: Method = BygConfig()
    critic: CriticConfig = CriticConfig()
    rollout: RolloutConfig = RolloutConfig()
    time: TimeConfig = TimeConfig()
    warmup: WarmupConfig = WarmupConfig()
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainSection = TrainSection()
    sample: SampleConfig = SampleConfig()

    @model_validator(mode="after")
    def _of_the_family(self) -> TrainConfig:
        family, frames, expert = family_of(self.model.family), self.data.frames, self.train.expert
        for name, found, only, is_free in (
            ("train.expert", expert, "both", lambda f: len(f.experts) > 1),
            ("data.frames", frames, 1, lambda f: f.is_video),
        ):
            if found != only and not is_free(family):
                raise ValueError(
                    f"{name} is {found!r}, which is for {titles(is_free)} alone: family "
                    f"{family.name!r} takes {only!r}"
                )
        if expert not in ("both", *family.experts):
            known = ", ".join(map(repr, ("both", *family.experts)))
            raise ValueError(f"train.expert is {expert!r}: family {family.name!r} takes {known}")
        if beyond := (frames - 1) % (group := family.frame_group):
            before = frames - beyond
            raise ValueError(
                f"data.frames is {frames}: family {family.name!r} takes {group}k + 1 frames, such "
                f"as {before} or {before + group}"
            )
        return self

    @model_validator(mode="after")
    def _something_is_adapted(self) -> TrainConfig:
        if self.lora.targets == []:  # as of a bare base, which is no run
            raise ValueError("lora.targets is empty: wanted at least 1 name, or null for the usual")
        return self

    @model_validator(mode="after")
    def _teacher_is_there(self) -> TrainConfig:
        if self.method.sees_source and self.warmup.lora is None:
            raise ValueError(
                "method.teacher is 'editor', and there is none: name its LoRA, as --init FILE or "
                "warmup.lora, or set method.teacher to 'base'"
            )
        return self

    @model_validator(mode="after")
    def _critic_is_there(self) -> TrainConfig:
        weight = getattr(self.method, "critic_weight", 0)
        if weight and not self.critic.path:
            raise ValueError(
                f"method.critic_weight is {weight}, and there is no critic: set critic.path to the "
                "hub id or folder of a vision-language model (on the tiny world: 'world'), or "
                "method.critic_weight to 0"
            )
        return self

    @model_validator(mode="after")
    def _rows_of_a_rollout(self) -> TrainConfig:
        times, rows, whole = self.rollout.times, self.train.batch_size, self.train.global_batch
        if (times % rows and rows % times) or whole % times:
            raise ValueError(
                f"rollout.times is {times}, with train.batch_size {rows} and train.global_batch "
                f"{whole}: it must divide the batch size or be a multiple of it, and divide the "
                "global batch"
            )
        return self

    @property
    def items_at_once(self) -> int:
        """Items of a micro-batch."""
        return max(1, self.train.batch_size // self.rollout.times)

    @property
    def items_per_step(self) -> int:
        """Items of an optimiser step, in all processes."""
        return self.train.global_batch // self.rollout.times

    def with_dtype(self, dtype: str) -> TrainConfig:
        """The same run in another `model.dtype`."""
        model = self.model.model_copy(update={"dtype": dtype})
        return self.model_copy(update={"model": model})


PRESETS = {p.stem: p for p in sorted(PRESET_FOLDER.glob("*.toml"))}
# Settings that are laid over a preset.
PROFILES = {p.stem: p for p in sorted(PRESET_FOLDER.with_name("profiles").glob("*.toml"))}


def load_preset(name: str) -> dict[str, Any]:
    """The tables of a preset file."""
    return {**_shipped("preset", name, PRESETS), "preset": name}


def _shipped(kind: str, name: str, files: dict[str, Path]) -> dict[str, Any]:
    if name not in files:
        raise ConfigError(
            f"unknown {kind} {name!r}{nearest(name, list(files))} (known: {', '.join(files)})"
        )
    return read_settings(files[name])


def read_settings(path: Path) -> dict[str, Any]:
    """The tables of a configuration file, with "null" for settings without a value."""
    return replaced(read_toml(path), NULL, None)


def replaced(tables: dict[str, Any], old: str | None, new: str | None) -> dict[str, Any]:
    """The same tables with one value for another, wherever it stands."""

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return replaced(value, old, new)
        return new if value == old else value

    return {key: one(value) for key, value in tables.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a user's configuration file."""
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except OSError as error:  # a folder, or a file that may not be read
        raise ConfigError(f"configuration file {path}: {error.strerror}") from None
    except TextFileError as error:
        raise ConfigError(str(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def merged(tables: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `tables`, section by section."""
    result = dict(tables)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def parse_set(assignment: str) -> dict[str, Any]:
    """`section.key=value` -> nested tables; the value is TOML, or a bare string, or null."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"setting {assignment!r}: wanted section.key=value")
    text = text.strip()
    try:
        value = None if text in ("null", "none", "None") else tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    return _nested(name.strip(), value)


def assigned(tables: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The tables with `section.key=value` laid over them, the later ones last."""
    for assignment in assignments:
        tables = merged(tables, parse_set(assignment))
    return tables


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def merge_settings(
    preset: str | None = None,
    *,
    profile: str | None = None,
    file: Path | None = None,
    data: Path | None = None,
    model: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    init: Path | None = None,
    assignments: Iterable[str] = (),
) -> TrainConfig:
    """Build a validated configuration: preset < profile < file < what is given here < assignments.

    Without a preset it is the one that the file names, else the defaults. `data`, `model` and
    `steps` are data.path, model.path and train.steps; `init` is a LoRA to start from, which can
    edit already: there is no identity warm-up then. An assignment is `section.key=value`, and of
    two the later one counts.
    """
    tables = read_settings(file) if file else {}
    preset = preset or tables.get("preset", "custom")
    below = {} if preset == "custom" else load_preset(preset)
    if profile:
        below = merged(below, _shipped("profile", profile, PROFILES))
    tables = merged(below, {**tables, "preset": preset})
    given = {"seed": seed, "model.path": model, "data.path": data, "train.steps": steps}
    if init is not None:
        none = {"min_steps": 0, "max_steps": 0, "until": None}
        tables = merged(tables, {"warmup": {"lora": str(init), **none}})
    for name, value in given.items():
        if value is not None:
            tables = merged(tables, _nested(name, value))
    return build_config(assigned(tables, assignments))


def build_config(tables: dict[str, Any]) -> TrainConfig:
    """Validate; a wrong or unknown setting is named with what is known beside it."""
    try:
        return TrainConfig.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(e, tables) for e in error.errors())) from None


def _quotes(error: dict[str, Any], where: str) -> str:
    """How a text is written that looks like something else, such as a commit of digits."""
    value = error["input"]
    if error["type"] not in ("string_type", "path_type") or isinstance(value, (dict, list)):
        return ""
    text = value if type(value) is int else "TEXT"
    return (
        f"; a text that looks like a number, a date or true stands in quotes: '{where}=\"{text}\"'"
    )


def _explain(error: dict[str, Any], tables: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        found = "" if isinstance(error["input"], dict) else f" (found {error['input']!r})"
        return f"{where}: {error['msg']}{found}{_quotes(error, where)}".removeprefix(": ")
    model: Any = TrainConfig
    for part in error["loc"][:-1]:
        method = part == "method"
        model = method_class(tables[part]) if method else model.model_fields[part].annotation
    known = list(model.model_fields)
    hint = nearest(str(error["loc"][-1]), known)
    return f"unknown setting {where}{hint} (known: {', '.join(known)})"
