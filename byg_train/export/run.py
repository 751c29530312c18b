"""What leaves the house: a run's LoRA with a card, a preview and a filled-in ComfyUI workflow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config import ConfigError, TrainConfig
from ..data.items import load_items
from ..family import ALONE, family_of, file_endings
from ..files import copy_file, is_plain_name, keep_as_bak, write_json, write_text
from ..models.backbone import pixel_multiple
from ..models.locate import public_name
from ..models.lora_file import LoraInfo, expert_path, read_info, read_lora, write_lora
from ..training.checkpoint import STEP, checkpoints, load_checkpoint
from ..training.run_folder import CONFIG, lora_info, read_config
from .card import card, has_workflow, workflow

if TYPE_CHECKING:
    from torch import Tensor


class StoredWeights(NamedTuple):
    """A run's weights of one step: LoRA files by expert, or a checkpoint's folder."""

    step: int
    files: dict[str, Path]  # empty: a checkpoint
    checkpoint: Path | None = None


def export_run(
    run: Path, *, weights: str, step: int | None, output: Path | None, name: str | None
) -> list[Path]:
    """Write NAME.safetensors, NAME.png, NAME.workflow.json and README.md; returns what was written.

    Of two experts there are two files, NAME_high_noise and NAME_low_noise; of clips there is also
    NAME.mp4. No workflow is written where nodes could not run it.

    `weights` are `live`, what was trained and sampled, or `ema`, its slow average; without a step
    the newest ones. Without other names the files go to RUN/export, and are called as the run.
    """
    run = run.resolve()
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run} is no run: it holds no {CONFIG}")
    if weights not in ("live", "ema"):
        raise ConfigError(f"weights {weights!r}: wanted live or ema")
    name = _checked_name(name or run.name)
    output = _checked_output(run, (output or run / "export").resolve(), name)
    stored = _find(run, weights, step)
    info = _published(_info(run, stored, weights))
    written = _write_weights(run, stored, info, output / f"{name}.safetensors")
    experts = list(written)
    previews = [copy_file(p, output / f"{name}{p.suffix}") for p in _previews(run, stored.step)]
    others = list(previews)
    if has_workflow(info):
        others.append(output / f"{name}.workflow.json")
        write_json(others[-1], workflow(info, name, experts))
    suffixes = [p.suffix for p in previews]
    text = card(
        info, name, has_preview=".png" in suffixes, has_video=".mp4" in suffixes, experts=experts
    )
    readme = output / "README.md"
    if readme.exists() and readme.read_text(encoding="utf-8", errors="replace") != text:
        keep_as_bak(readme)  # someone may have written into it
    write_text(readme, text)
    return [*written.values(), *others, readme]


def _checked_name(name: str) -> str:
    if not is_plain_name(name):
        raise ConfigError(f"name {name!r}: wanted a plain file name without a folder")
    return name


def _checked_output(run: Path, output: Path, name: str) -> Path:
    if output == run or (output.exists() and not output.is_dir()):
        raise ConfigError(f"{output}: wanted a folder of its own")
    mine = [expert_path(output / f"{name}.safetensors", expert) for expert in file_endings()]
    if output.exists() and any(output.iterdir()) and not any(file.exists() for file in mine):
        raise ConfigError(f"{output} is not empty and holds no export of {name}")
    return output


def _find(run: Path, weights: str, step: int | None) -> StoredWeights:
    """The newest weights, or those of a step; a LoRA file before a checkpoint of the same step."""
    folders = checkpoints(run / "checkpoints")
    candidates = [StoredWeights(int(p.name.removeprefix("step-")), {}, p) for p in folders]
    if weights == "live":
        by_step: defaultdict[int, dict[str, Path]] = defaultdict(dict)
        for path in sorted(run.glob("*.safetensors")):
            info = _stored_info(path)
            by_step[info.steps][info.expert or "transformer"] = path
        candidates += [StoredWeights(step, files) for step, files in by_step.items()]
    steps = sorted({f.step for f in candidates})
    what = "EMA weights" if weights == "ema" else "weights"
    if not candidates:
        raise ConfigError(f"{run} holds no {what} yet")
    if step is not None and step not in steps:
        raise ConfigError(f"step {step}: {run} holds {what} of steps {', '.join(map(str, steps))}")
    wanted = steps[-1] if step is None else step
    return [f for f in candidates if f.step == wanted][-1]


def _stored_info(lora: Path) -> LoraInfo:
    try:
        return read_info(lora)
    except ValueError as error:
        raise ConfigError(
            f"{lora} is no whole LoRA of this run: {error}; move it out of the run's folder"
        ) from None


def _info(run: Path, chosen: StoredWeights, weights: str) -> LoraInfo:
    """The metadata of a LoRA file; of a checkpoint, what the run's files or its data say."""
    if chosen.files:
        return _stored_info(next(iter(chosen.files.values())))
    stored = sorted(run.glob("*.safetensors"))
    info = _stored_info(stored[0]) if stored else _info_from_data(read_config(run))
    kind = "ema" if weights == "ema" else "edit"
    return replace(info, steps=chosen.step, weights=kind)


def _published(info: LoraInfo) -> LoraInfo:
    """Remove the paths of this machine from the metadata."""
    components = info.components and public_name(info.components)[0]
    return replace(info, base=public_name(info.base)[0], components=components)


def _info_from_data(config: TrainConfig) -> LoraInfo:
    multiple = pixel_multiple(config.model)
    info = lora_info(config, load_items(config.data, multiple), multiple, 0)
    bases = family_of(config.model.family).bases
    return replace(info, boundary=bases.boundary(config.model))


def _write_weights(run: Path, stored: StoredWeights, info: LoraInfo, lora: Path) -> dict[str, Path]:
    """Expert -> the file that was written."""
    try:
        tensors = {e: read_lora(p).by_diffusers_names() for e, p in stored.files.items()}
    except ValueError as error:  # one with NaN, say, of a training that diverged
        raise ConfigError(str(error)) from None
    scale = 1.0
    if stored.checkpoint is not None:
        settings = read_config(run).lora
        scale = 1.0 if settings.alpha is None else settings.alpha / settings.rank
        tensors = _of_checkpoint(stored.checkpoint, info.weights)
    if not tensors:
        raise ConfigError(f"{run} has no EMA weights (method.ema_decay was null); use live ones")
    written = {expert: expert_path(lora, expert) for expert in tensors}
    for expert, path in written.items():
        own = replace(info, expert=None if expert == ALONE else expert)
        kind = {"family": info.family, "metadata": own.to_metadata()}
        write_lora(path, tensors[expert], scale=scale, **kind)
    return written


def _of_checkpoint(folder: Path, weights: str) -> dict[str, dict[str, Tensor]]:
    """Expert -> its tensors as diffusers names them; without EMA, nothing of `ema`."""
    experts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_checkpoint(folder)["lora"].items():
        role, expert, name = key.split(".", 2)
        if role == weights:
            experts.setdefault(expert, {})[name] = tensor
    return experts


def _previews(run: Path, step: int) -> list[Path]:
    """The newest samples that are not newer than the weights: a picture, and of clips a video."""
    files = ((STEP.fullmatch(p.stem), p) for p in (run / "samples").glob("step-*.*"))
    samples = [(int(named[1]), p) for named, p in files if named]
    newest = max((at for at, _ in samples if at <= step), default=None)
    return sorted((p for at, p in samples if at == newest), key=lambda p: p.suffix, reverse=True)
