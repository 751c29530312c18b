"""ByG Loader: a ByG LoRA onto a model, checked, and the source where it was in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from comfy_api.v0_0_2 import io, ui

from ..byg_train.lora_file import LoraFile, LoraInfo, read_lora
from ..byg_train.schedule import flux_shift
from .host import lora as host
from .host.sampling import set_shift, show_text
from .host.source import place_source
from .sockets import INFO, advanced, found_by, named, to_text

NAME = "ByG Loader"
PAIR, SAME = "auto pair", "same file"
ERROR, WARN = "error", "warn"
HIGH, LOW = "_high_noise", "_low_noise"
POSITIONS = {"auto": None, "own index": "index", "shared with the target": "shared"}
TRAINED, AS_IS = "as trained", "as the model is"
# What the LoRA's file calls a sampler -> ComfyUI's name.
SAMPLERS = {None: "euler", "euler": "euler", "unipc": "uni_pc"}
# How many names of an overlong list a message shows.
SHOWN = 3


class Loaded(NamedTuple):
    """A LoRA file that was checked against a model."""

    name: str
    file: LoraFile
    info: LoraInfo


class Loader(io.ComfyNode):
    """MODEL in, MODEL out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = host.lora_names()
        schema = io.Schema(
            node_id="ByG_Loader",
            display_name=NAME,
            category="ByG/loaders",
            description="Loads an editing LoRA that byg_train trained. Stops when it does not fit "
            "the model, instead of silently doing nothing, and sets the model up as in training.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The base model, from any loader: FLUX.1-dev, or Wan 2.2 T2V (of a "
                    "pair the high-noise model). Other LoRAs may come before or after.",
                ),
                io.Combo.Input(
                    "lora_name",
                    options=names,
                    tooltip="A LoRA that byg_train wrote. Other LoRAs go into Load LoRA.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    tooltip="How strongly it edits: 1 as trained, 0 not at all. The same scale as "
                    "in Load LoRA.",
                ),
                io.Model.Input(
                    "model_low",
                    optional=True,
                    tooltip="The low-noise model of a Wan 2.2 14B pair. Leave it empty otherwise.",
                ),
                advanced(
                    io.Combo.Input(
                        "lora_low_name",
                        options=[PAIR, SAME, *names],
                        default=PAIR,
                        tooltip="The LoRA of model_low. Auto pair swaps _high_noise for _low_noise "
                        "in the file's name; a name without either serves both models.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "on_mismatch",
                        options=[ERROR, WARN],
                        default=ERROR,
                        tooltip="What to do when a part of the LoRA finds no place in the model: "
                        "stop, or leave it out and say so in the report.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "source_positions",
                        options=list(POSITIONS),
                        default="auto",
                        tooltip="Where the source stands beside the result. Auto follows the LoRA; "
                        "anything else is an experiment.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "schedule",
                        options=[TRAINED, AS_IS],
                        default=TRAINED,
                        tooltip="Whether schedulers follow the shift that the LoRA was trained "
                        "for. A ModelSampling node behind this one has the last word.",
                    )
                ),
            ],
            outputs=[
                io.Model.Output("patched", display_name="model", tooltip="For the sampler."),
                io.Model.Output(
                    "patched_low", display_name="model_low", tooltip="For the second sampler."
                ),
                INFO.Output("info", display_name="info", tooltip="For ByG Image or Video Edit."),
                io.String.Output(
                    "report", display_name="report", tooltip="What was loaded, and how to sample."
                ),
            ],
        )
        return found_by(schema, "edit lora", "load byg", "unpaired edit", "lora loader")

    @classmethod
    def fingerprint_inputs(
        cls,
        model: Any = None,
        lora_name: str = "",
        strength: float = 1.0,
        model_low: Any = None,
        lora_low_name: str = PAIR,
        on_mismatch: str = ERROR,
        source_positions: str = "auto",
        schedule: str = TRAINED,
    ) -> list[tuple[str, int, int]]:
        """A file that was trained further and kept its name is loaded again."""
        names = [lora_name] if lora_low_name == SAME else [lora_name, _partner(lora_name)]
        names += [] if lora_low_name in (PAIR, SAME) else [lora_low_name]
        stats = [(n, host.lora_path(n).stat()) for n in names if n in host.lora_names()]
        return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]

    @classmethod
    def execute(
        cls,
        model: Any,
        lora_name: str,
        strength: float,
        model_low: Any = None,
        lora_low_name: str = PAIR,
        on_mismatch: str = ERROR,
        source_positions: str = "auto",
        schedule: str = TRAINED,
    ) -> io.NodeOutput:
        with named(NAME):
            lora = _load(lora_name, model)
            info = replace(
                lora.info, reference_mode=POSITIONS[source_positions] or lora.info.reference_mode
            )
            shift = _shift(info) if schedule == TRAINED else None
            setup = (strength, info.reference_mode, shift, on_mismatch)
            patched, lines = _patched(model, lora, *setup)
            patched_low = None
            if model_low is not None:
                low = _load(_low_name(lora_name, lora_low_name), model_low)
                _check_experts(lora, low)
                patched_low, more = _patched(model_low, low, *setup)
                lines += more
            report = to_text([*lines, *_facts(info)])
        show_text(report)
        return io.NodeOutput(patched, patched_low, info, report, ui=ui.PreviewText(report))


def _partner(name: str) -> str:
    """The other file of a pair; a name without a suffix is its own."""
    for suffix, other in ((HIGH, LOW), (LOW, HIGH)):
        if suffix in name:
            return other.join(name.rsplit(suffix, 1))
    return name


def _low_name(name: str, choice: str) -> str:
    if choice != PAIR:
        return name if choice == SAME else choice
    partner = _partner(name)
    if partner not in host.lora_names():
        raise ValueError(
            f"lora_low_name: {name} has no partner {partner} beside it; copy that file too, or "
            f"choose one for model_low"
        )
    return partner


def _load(name: str, model: Any) -> Loaded:
    """Read a LoRA and check it against the model, as far as its metadata goes."""
    path = host.lora_path(name)
    try:
        file = read_lora(path)
        info = LoraInfo.from_metadata(file.metadata)
    except ValueError as error:
        raise ValueError(
            f"{error}. A LoRA that byg_train did not write goes into Load LoRA"
        ) from None
    kind = host.family(model)
    if kind != info.family:
        raise ValueError(
            f"{name} edits with {_base(info)}, the model is {host.model_name(model)}; load that "
            f"base model, or choose a LoRA of this one"
        )
    if kind == "flux" and host.has_guidance(model) != (info.guidance_sample is not None):
        has = "has" if host.has_guidance(model) else "lacks"
        raise ValueError(
            f"{name} was trained on {_base(info)}; this FLUX model {has} the guidance input of "
            f"FLUX.1-dev, so it is another one. Load {_base(info)}"
        )
    return Loaded(name, file, info)


def _base(info: LoraInfo) -> str:
    return "the tiny world's model (ByG Tiny World)" if info.base == "world" else info.base


def _check_experts(high: Loaded, low: Loaded) -> None:
    """Of a pair each network gets its own."""
    for lora, slot, other in ((high, "lora_name", "low"), (low, "lora_low_name", "high")):
        if lora.info.expert == other:
            raise ValueError(
                f"{slot}: {lora.name} was trained for the {other}-noise model; swap the two files, "
                f"or the two models"
            )


def _patched(
    model: Any, lora: Loaded, strength: float, mode: str, shift: float | None, on_mismatch: str
) -> tuple[Any, list[str]]:
    """A clone with the LoRA on it, its source in place and its schedule, and what to report."""
    applied = host.apply_lora(model, lora.file, strength)
    matched = applied.total - len(applied.unknown) - len(applied.misfits)
    lines = [f"{lora.name}: {matched} of {applied.total} modules matched"]
    if matched < applied.total:
        problem = _problem(lora, applied, host.model_name(model))
        if on_mismatch == ERROR:
            raise ValueError(problem)
        lines.append(f"WARNING: {problem}")
    place_source(applied.model, mode)
    if shift is not None:
        set_shift(applied.model, shift)
    return applied.model, lines


def _problem(lora: Loaded, applied: host.Applied, model: str) -> str:
    texts = []
    if applied.unknown:
        texts.append(f"{len(applied.unknown)} modules are unknown to it: {_some(applied.unknown)}")
    if applied.misfits:
        sizes = [f"{module} is {wrong}" for module, wrong in sorted(applied.misfits.items())]
        texts.append(f"{len(sizes)} modules have another size: {_some(sizes)}")
    return (
        f"{lora.name} does not fit this {model} model ({'; '.join(texts)}). It was trained on "
        f"{_base(lora.info)}: load that, or set on_mismatch to warn"
    )


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shift(info: LoraInfo) -> float:
    """The schedule's shift; the one that follows the size, at the size of the training."""
    if info.sample_shift != "flux":
        return float(info.sample_shift)
    return flux_shift((info.resolution // info.multiple) ** 2)


def _facts(info: LoraInfo) -> list[str]:
    """What an artist sets elsewhere, and what the LoRA was taught."""
    how = f"sample with {info.sample_steps} steps, {SAMPLERS[info.sampler]}, simple, {_cfg(info)}"
    if info.guidance_sample is not None:
        how += f", guidance {info.guidance_sample:g} (set by ByG Image Edit)"
    lines = [
        f"base {info.base}, {info.steps} training steps at {info.resolution} px, rank {info.rank}",
        f"{how}; source positions: {info.reference_mode}",
    ]
    if info.negative:
        lines.append(f"negative: {info.negative}")
    if info.expert is not None:
        lines.append(f"expert {info.expert}, boundary {info.boundary}")
    if info.instructions:
        lines.append(f"it knows, for example: {'; '.join(info.instructions[:SHOWN])}")
    return lines


def _cfg(info: LoraInfo) -> str:
    high = 1.0 if info.cfg is None else info.cfg
    low = high if info.cfg_low is None else info.cfg_low
    return f"cfg {high:g}" if high == low else f"cfg {high:g}, then {low:g} at low noise"


NODES = [Loader]
