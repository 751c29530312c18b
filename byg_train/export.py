"""What leaves the house: a run's LoRA with a card, a preview and a filled-in ComfyUI workflow."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from .backbones.flux import pixel_multiple
from .card import card, has_workflow, public_name, workflow
from .checkpoint import checkpoints
from .config import ConfigError, TrainConfig
from .data.items import load_items
from .files import atomic
from .lora_file import LoraInfo, read_lora, write_lora
from .run_folder import CONFIG, lora_info, read_config


class Found(NamedTuple):
    """Where a run's weights of one step are: a LoRA file, or a checkpoint folder."""

    step: int
    path: Path


def export_run(
    run: Path, *, weights: str, step: int | None, output: Path | None, name: str | None
) -> list[Path]:
    """Write NAME.safetensors, NAME.png, NAME.workflow.json and README.md; returns what was written.

    No workflow is written where ComfyUI's own nodes could not run it.

    Args:
        run: a run's folder.
        weights: `live`, what was trained and sampled, or `ema`, its slow average.
        step: which one; None: the newest.
        output: folder, RUN/export if None.
        name: of the files, the run folder's name if None.
    """
    run = run.resolve()
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run} is no run: it holds no {CONFIG}")
    if weights not in ("live", "ema"):
        raise ConfigError(f"--weights {weights!r}: wanted live or ema")
    name = _checked_name(name or run.name)
    output = _checked_output(run, (output or run / "export").resolve(), name)
    found = _find(run, weights, step)
    info = _published(_info(run, found, weights))
    lora = output / f"{name}.safetensors"
    _write_weights(run, found, info, lora)
    written = [lora]
    if preview := _preview(run, found.step):
        written.append(output / f"{name}.png")
        with atomic(written[-1]) as temporary:
            shutil.copyfile(preview, temporary)
    if has_workflow(info):
        graph = json.dumps(workflow(info, name), indent=1, ensure_ascii=False)
        written.append(_write_text(output / f"{name}.workflow.json", graph))
    card_text = card(info, name, has_preview=preview is not None)
    return [*written, _write_text(output / "README.md", card_text)]


def _checked_name(name: str) -> str:
    if not name or Path(name).name != name or "\\" in name or name.startswith("."):
        raise ConfigError(f"--name {name!r}: wanted a plain file name without a folder")
    return name


def _checked_output(run: Path, output: Path, name: str) -> Path:
    if output == run or (output.exists() and not output.is_dir()):
        raise ConfigError(f"--output {output}: wanted a folder of its own")
    if output.exists() and any(output.iterdir()) and not (output / f"{name}.safetensors").exists():
        raise ConfigError(f"--output {output} is not empty and holds no export of {name}")
    return output


def _find(run: Path, weights: str, step: int | None) -> Found:
    """The newest weights, or those of a step; a LoRA file before a checkpoint of the same step."""
    found = [Found(int(p.name.removeprefix("step-")), p) for p in checkpoints(run / "checkpoints")]
    if weights == "live":
        found += [Found(_stored_info(p).steps, p) for p in sorted(run.glob("*.safetensors"))]
    steps = sorted({f.step for f in found})
    what = "EMA weights" if weights == "ema" else "weights"
    if not found:
        raise ConfigError(f"{run} holds no {what} yet")
    if step is not None and step not in steps:
        raise ConfigError(
            f"--step {step}: {run} holds {what} of steps {', '.join(map(str, steps))}"
        )
    wanted = steps[-1] if step is None else step
    return [f for f in found if f.step == wanted][-1]


def _stored_info(lora: Path) -> LoraInfo:
    try:
        with safe_open(lora, "pt") as file:
            return LoraInfo.from_metadata(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"{lora} is no whole LoRA of this run: {error}; move it out of the run's folder"
        ) from None


def _info(run: Path, found: Found, weights: str) -> LoraInfo:
    """The metadata of a LoRA file; of a checkpoint, what the run's files or its data say."""
    if found.path.is_file():
        return _stored_info(found.path)
    stored = sorted(run.glob("*.safetensors"))
    info = _stored_info(stored[0]) if stored else _info_from_data(read_config(run))
    kind = "ema" if weights == "ema" else "edit"
    return replace(info, steps=found.step, weights=kind)


def _published(info: LoraInfo) -> LoraInfo:
    """Without the folders of this machine, which are nobody else's business."""
    components = info.components and public_name(info.components)[0]
    return replace(info, base=public_name(info.base)[0], components=components)


def _info_from_data(config: TrainConfig) -> LoraInfo:
    multiple = pixel_multiple(config.model)
    return lora_info(config, load_items(config.data, multiple), multiple, 0)


def _write_weights(run: Path, found: Found, info: LoraInfo, lora: Path) -> None:
    if found.path.is_file():
        file, metadata = read_lora(found.path), info.to_metadata()
        write_lora(lora, file.tensors, scale=1.0, prefix=file.prefix, metadata=metadata)
        return
    settings = read_config(run).lora
    experts: dict[str, dict] = {}
    with safe_open(found.path / "lora.safetensors", "pt") as file:
        for key in file.keys():  # noqa: SIM118
            role, expert, name = key.split(".", 2)
            if role == info.weights:
                experts.setdefault(expert, {})[name] = file.get_tensor(key)
    if not experts:
        raise ConfigError(f"{run} has no EMA weights (method.ema_decay was null); use live ones")
    for expert, tensors in experts.items():
        scale = 1.0 if settings.alpha is None else settings.alpha / settings.rank
        write_lora(lora, tensors, scale=scale, prefix=f"{expert}.", metadata=info.to_metadata())


def _preview(run: Path, step: int) -> Path | None:
    """The newest sample grid that is not newer than the weights."""
    grids = sorted((run / "samples").glob("step-*.png"))
    return max((g for g in grids if int(g.stem.removeprefix("step-")) <= step), default=None)


def _write_text(path: Path, text: str) -> Path:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
