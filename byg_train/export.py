"""What leaves the house: a run's LoRA with a card, a preview and a filled-in ComfyUI workflow."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import quote

from safetensors import safe_open

from .backbones.flux import pixel_multiple
from .backbones.locate import HUB_ID
from .checkpoint import checkpoints
from .config import ConfigError, TrainConfig
from .data.items import load_items
from .files import atomic
from .lora_file import LoraInfo, write_lora
from .run_folder import CONFIG, lora_info, read_config

TEMPLATES = Path(__file__).parent / "templates"
# ComfyUI's limits and steps of the widgets that are filled in.
LEAST_MEGAPIXELS, BYPASS = 0.01, 4
FLUX_LICENCE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"


class Found(NamedTuple):
    """Where a run's weights of one step are: a LoRA file, or a checkpoint folder."""

    step: int
    path: Path


def export_run(
    run: Path, *, weights: str, step: int | None, output: Path | None, name: str | None
) -> list[Path]:
    """Write NAME.safetensors, NAME.png, NAME.workflow.json and README.md; returns what was written.

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
    info = _info(run, found, weights)
    lora = output / f"{name}.safetensors"
    _write_weights(run, found, info, lora)
    written = [lora]
    if preview := _preview(run, found.step):
        written.append(output / f"{name}.png")
        with atomic(written[-1]) as temporary:
            shutil.copyfile(preview, temporary)
    if info.reference_mode == "index":  # no stock node puts the source at the target's positions
        graph = json.dumps(workflow(info, name), indent=1, ensure_ascii=False)
        written.append(_write_text(output / f"{name}.workflow.json", graph))
    card_text = card(info, name, has_preview=preview is not None)
    return [*written, _write_text(output / "README.md", card_text)]


# ---------------------------------------------------------------- what to export


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
    with safe_open(lora, "pt") as file:
        return LoraInfo.from_metadata(file.metadata() or {})


def _info(run: Path, found: Found, weights: str) -> LoraInfo:
    """The metadata of a LoRA file; of a checkpoint, what the run's files or its data say."""
    if found.path.is_file():
        return _stored_info(found.path)
    stored = sorted(run.glob("*.safetensors"))
    info = _stored_info(stored[0]) if stored else _info_from_data(read_config(run))
    kind = "ema" if weights == "ema" else "edit"
    return replace(info, steps=found.step, weights=kind)


def _info_from_data(config: TrainConfig) -> LoraInfo:

    multiple = pixel_multiple(config.model)
    return lora_info(config, load_items(config.data, multiple), multiple, 0)


def _write_weights(run: Path, found: Found, info: LoraInfo, lora: Path) -> None:
    if found.path.is_file():
        with atomic(lora) as temporary:
            shutil.copyfile(found.path, temporary)
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


# ---------------------------------------------------------------- what goes with it


def workflow(info: LoraInfo, name: str) -> dict[str, Any]:
    """The stock-node graph with this LoRA's file name, instruction and settings.

    ReferenceLatent puts one source at first axis 1, as `reference_mode = index` trains it;
    ModelSamplingFlux with the scheduler `simple` gives the times of `schedule.time_grid`.
    """
    graph = json.loads((TEMPLATES / "flux.workflow.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: node for node in graph["nodes"]}
    megapixels = round(info.resolution**2 / 1024**2, 2)
    if megapixels < LEAST_MEGAPIXELS:
        nodes["ImageScaleToTotalPixels"]["mode"] = BYPASS
    if info.guidance_sample is None:
        nodes["FluxGuidance"]["mode"] = BYPASS
    size = [info.resolution, info.resolution]
    filled = {
        "LoraLoaderModelOnly": [f"{name}.safetensors", 1.0],
        "ModelSamplingFlux": [*_shifts(info), *size],
        "ImageScaleToTotalPixels": ["lanczos", max(megapixels, LEAST_MEGAPIXELS)],
        "CLIPTextEncode": [info.instructions[0] if info.instructions else ""],
        "FluxGuidance": [info.guidance_sample or 0.0],
        "KSampler": [0, "randomize", info.sample_steps, 1.0, "euler", "simple", 1.0],
        "SaveImage": [name],
        "MarkdownNote": [_note(info, name)],
    }
    for kind, values in filled.items():
        nodes[kind]["widgets_values"] = values
    return graph


def _shifts(info: LoraInfo) -> tuple[float, float]:
    """ModelSamplingFlux's max_shift and base_shift; they are logarithms of the shift."""
    if info.sample_shift == "flux":
        return 1.15, 0.5
    mu = math.log(float(info.sample_shift))
    if mu < 0:
        raise ConfigError(f"sample.shift {info.sample_shift}: ComfyUI's FLUX nodes take 1 or more")
    return mu, mu


def _note(info: LoraInfo, name: str) -> str:
    known = "\n".join(f"- {text}" for text in info.instructions[:8])
    return (
        f"## {name}\n\nAn image-editing LoRA for **{_base(info)[0]}**, trained with ByG from "
        f"unpaired pictures. Put `{name}.safetensors` into `models/loras`, choose a picture, write "
        f"what to change.\n\nInstructions it knows:\n{known}\n\nThe picture enters through "
        "ReferenceLatent: without it, the LoRA has nothing to edit. Keep cfg at 1. Strength 1 is "
        "as trained; less keeps more of the source. Removing things and changing written text "
        "work worst."
    )


def _base(info: LoraInfo) -> tuple[str, bool]:
    """The base's name as others may know it, and whether it is a model on the hub.

    Of a local path only the last part: the rest is nobody's business.
    """
    if HUB_ID.fullmatch(info.base) and not Path(info.base).exists():
        return info.base, True
    return Path(info.base).name, False


def card(info: LoraInfo, name: str, *, has_preview: bool) -> str:
    """The README of a model page, with front matter for the Hugging Face hub."""
    base, hub = _base(info)
    licence, licence_words = _licence(base)
    tags = ["lora", "image-to-image", "image-editing", info.family, "byg", "comfyui"]
    matter: dict[str, Any] = {
        **({"base_model": base, "base_model_relation": "adapter"} if hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": tags,
        **licence,
    }
    preview = f"\n![source, edit, edited back, one-step prediction]({quote(name)}.png)\n"
    example = info.instructions[0] if info.instructions else "what to change"
    return Template((TEMPLATES / "card.md").read_text(encoding="utf-8")).substitute(
        # JSON values are YAML values, whatever characters they hold.
        front_matter="\n".join(f"{k}: {json.dumps(v)}" for k, v in matter.items()),
        name=name,
        base=f"[{base}](https://huggingface.co/{base})" if hub else f"`{base}`",
        preview=preview if has_preview else "",
        instructions="\n".join(f"- {text}" for text in info.instructions) or "- (none recorded)",
        file=shlex.quote(f"{name}.safetensors"),
        instruction=shlex.quote(example),
        licence=licence_words,
        **_settings(info, name),
    )


def _settings(info: LoraInfo, name: str) -> dict[str, object]:
    """The card's table of settings."""
    stock = (
        f" and drag `{name}.workflow.json` onto the\ncanvas; no custom nodes are needed. The "
        "source enters through *ReferenceLatent*: without it the LoRA\nhas nothing to edit."
    )
    positions = {
        "index": (stock, "index 1, as in FLUX.1 Kontext"),
        "shared": (". No stock node can place its\nsource; it needs ByG's own.", "the target's"),
    }
    comfyui, reference = positions[info.reference_mode]
    return {
        "comfyui": comfyui,
        "reference": reference,
        "steps": info.sample_steps,
        "shift": "FLUX.1-dev's own" if info.sample_shift == "flux" else info.sample_shift,
        "guidance": "none" if info.guidance_sample is None else f"{info.guidance_sample:g} (cfg 1)",
        "resolution": info.resolution,
        "rank": info.rank,
        "trained": info.steps,
        "weights": {"edit": "live", "ema": "EMA"}[info.weights],
    }


def _licence(base: str) -> tuple[dict[str, str], str]:
    """Front matter and a sentence; of all bases only FLUX.1-dev's licence is known here."""
    if "flux.1-dev" not in base.lower():
        return {}, f"State yours here; the licence of the base model ({base}) binds it too."
    front = {
        "license": "other",
        "license_name": "flux-1-dev-non-commercial-license",
        "license_link": FLUX_LICENCE,
    }
    return front, f"The [FLUX.1-dev non-commercial licence]({FLUX_LICENCE}) of the base model."
