"""A run's folder: when it may be written to, its config.toml, and the newest of what it holds."""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ..config import NULL, ConfigError, TrainConfig, build_config, read_settings, replaced
from ..files import write_text
from ..models.configured_info import configured_info
from ..models.lora_file import LoraInfo, expert_path, write_lora
from .checkpoint import checkpoints, read_about
from .state import State

if TYPE_CHECKING:
    from ..data.items import Dataset
    from ..models.lora import LoraBank

CONFIG, DROPPED = "config.toml", "dropped.txt"
# How many instructions the metadata names as examples.
EXAMPLES = 20
# How `files.atomic` names what it has not finished.
HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")
# What may change between a run and its resumption: how long and how fast it goes on, what it
# writes, and what the messages of a run advise to change.
MAY_CHANGE = {
    "model.compile",
    "model.placement",
    "model.checkpointed_blocks",
    "model.keep_attention",
    "model.boundaries_on_cpu",
    "data.cache",
    "method.lambda_prior",
    "method.alpha",
    "method.prior_by_t",
    "method.gentle_from",
    "method.gentle_prior",
    "method.gentle_alpha",
    "optimizer.lr",
    "train.steps",
    "train.sample_every",
    "train.sample_first",
    "train.checkpoint_every",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
    "train.check_gradients_every",
    "train.weigh_losses",
    "train.wandb",
    # Names, not settings.
    "preset",
    "description",
    "source",
}
# The sections of what is learned from a step.
LEARNING = ("method.", "optimizer.")


def to_toml(config: TrainConfig) -> str:
    """Write every setting as TOML that `read_settings` reads back to the same configuration."""
    return tomli_w.dumps(replaced(config.model_dump(mode="json"), None, NULL))


def read_config(run: Path) -> TrainConfig:
    """The configuration that a run was started with."""
    return build_config(read_settings(run / CONFIG))


def write_config(run: Path, config: TrainConfig) -> None:
    """Mark the folder as a run of this configuration."""
    write_text(run / CONFIG, to_toml(config))


def write_dropped(run: Path, data: Dataset) -> None:
    """List the items that the run trains without, and the files that are not used."""
    lines = [*map(str, data.problems), *(f"{name}: not used, {why}" for name, why in data.unused)]
    if lines:
        write_text(run / DROPPED, "".join(f"{line}\n" for line in lines))


class HoldsRunError(ConfigError):
    """The folder holds a run, and it was not said that this one resumes it."""


def check_output(
    run: Path,
    config: TrainConfig,
    *,
    resume: bool,
    unmoved: Collection[str] = (),
    measured: bool = False,
) -> None:
    """Refuse a folder in which this run would mix with something else.

    New and empty folders are fine, hidden files aside. `data` alone is what a demo leaves that was
    stopped before it began to train; settings without any weights are what a failed start leaves.
    `unmoved` are settings that name another place with the same content (`origin.unmoved`);
    `measured` is for a study's run (`differences`).
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file; wanted a new or empty folder")
    names = {p.name for p in run.iterdir()} if run.exists() else set()
    inside = {name for name in names if not name.startswith(".")}
    if not inside - {"data"}:
        return
    if CONFIG not in inside:
        raise ConfigError(f"{run} is not empty and holds no run (no {CONFIG}); choose a new folder")
    if not holds_weights(run):
        return
    if not resume:
        raise HoldsRunError(f"{run} already holds a run; resume it, or choose another folder")
    before, own = read_config(run), own_dtype(run)
    if own:  # "auto" goes on in the run's own type; any other word must be that type
        before = before.with_dtype("auto" if config.model.dtype == "auto" else own)
    changed = differences(before, config, unmoved, measured=measured)
    if changed:
        raise ConfigError(
            f"{run} holds a run with other settings: {'; '.join(changed)}. "
            "Resume with the run's own settings, or choose another folder"
        )
    if (done := steps_done(run)) > config.train.steps:
        raise ConfigError(
            f"{run} has taken {done} steps, and {config.train.steps} are asked for: wanted as many "
            "or more (--steps), or another folder"
        )


def own_dtype(run: Path) -> str | None:
    """The type that a run's newest checkpoint was computed in; None if there is none, or no word.

    The run's settings may say "auto", which need not mean the same on this machine.
    """
    saved = checkpoints(run / "checkpoints")
    return read_about(saved[-1]).get("dtype") if saved else None


def steps_done(run: Path) -> int:
    """The method's own steps in a run's newest checkpoint."""
    saved = checkpoints(run / "checkpoints")
    return State.of(read_about(saved[-1])["counters"]).main_step if saved else 0


def holds_weights(run: Path) -> bool:
    """Whether a run has saved anything to go on with; half-written files are hidden."""
    saved = [*run.glob("*.safetensors"), *(run / "checkpoints").glob("*")]
    return any(not path.name.startswith(".") for path in saved)


def remove_half_written(run: Path) -> None:
    """Remove what a kill left of files that were being written; whatever else is there stays."""
    for folder in (run, run / "checkpoints", run / "samples"):
        for path in folder.glob(".*"):
            if not HALF_WRITTEN.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def newest_samples(run: Path) -> Path | None:
    """The newest grid of held-out items, if there is one yet."""
    return max((run / "samples").glob("step-*.png"), default=None)


def differences(
    run: TrainConfig, asked: TrainConfig, unmoved: Collection[str] = (), *, measured: bool = False
) -> list[str]:
    """`section.key: A in the run, B now` for settings that a resumed run may not change.

    `measured`: a study's run, which must be one of the settings that its table names.
    """
    before, now = _flat(run), _flat(asked)
    free = {key for key in MAY_CHANGE if not (measured and key.startswith(LEARNING))}
    if (ours := run.method.objective) != (theirs := asked.method.objective):
        return [f"method.objective: {ours!r} in the run, {theirs!r} now"]
    return [
        f"{key}: {before[key]!r} in the run, {now[key]!r} now"
        for key in before
        if before[key] != now[key] and key not in {*free, *unmoved}
    ]


def changes(run: Path, config: TrainConfig) -> list[str]:
    """`section.key: A until now, B from here`: what a resumed run will learn by that it did not."""
    before, now = _flat(read_config(run)), _flat(config)
    return [
        f"{key}: {before[key]!r} until now, {now[key]!r} from here"
        for key in before
        if before[key] != now[key] and key in MAY_CHANGE and key.startswith(LEARNING)
    ]


def _flat(config: TrainConfig) -> dict[str, Any]:
    """`section.key` -> value; paths are absolute, so that the working folder does not matter."""
    flat = {}
    for key, value in config.model_dump().items():
        section = value if isinstance(value, dict) else {"": value}
        for name, part in section.items():
            absolute = str(part.resolve()) if isinstance(part, Path) else part
            flat[f"{key}.{name}".rstrip(".")] = absolute
    return flat


def lora_info(config: TrainConfig, data: Dataset, multiple: int, steps: int) -> LoraInfo:
    """The LoRA file's metadata: all that `edit` and the nodes need to follow the training."""
    kinds = [item.edit_type for item in data.train]
    return replace(
        configured_info(config, multiple),
        instructions=_examples(kinds, [item.instruction for item in data.train]),
        reverse_instructions=_examples(kinds, [item.reverse_instruction for item in data.train]),
        dataset=data.fingerprint,
        steps=steps,
    )


def write_loras(
    path: Path, bank: LoraBank, family: str, info: LoraInfo, spans: dict[str, tuple[float, float]]
) -> list[Path]:
    """The live editor as LoRA files that ComfyUI and diffusers load: one for each expert."""
    files = {expert_path(path, expert): expert for expert in bank.experts}
    for file, expert in files.items():
        write_lora(
            file,
            bank.tensors(expert, "edit"),
            scale=bank.scale,
            family=family,
            metadata=of_expert(info, expert, spans).to_metadata(),
        )
    return list(files)


def of_expert(info: LoraInfo, expert: str, spans: dict[str, tuple[float, float]]) -> LoraInfo:
    """The metadata of one file of a pair, `spans` being the pair's; a lone network's is whole."""
    if len(spans) < 2:
        return info
    return replace(info, expert=expert, boundary=max(start for start, _ in spans.values()))


def _examples(kinds: list[str], texts: list[str]) -> list[str]:
    """List the most frequent text of every kind of edit, then the second ones, and so on.

    The kind that is trained most comes first: the first of these texts stands for the LoRA.
    """
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, text in zip(kinds, texts, strict=True):
        groups[kind][text] += 1
    kinds = sorted(groups, key=lambda k: (-groups[k].total(), k))
    ranked = [sorted(groups[k], key=lambda t, k=k: (-groups[k][t], t)) for k in kinds]
    turns = [text for turn in zip_longest(*ranked) for text in turn if text is not None]
    return list(dict.fromkeys(turns))[:EXAMPLES]
