"""ByG Loader: load a ByG LoRA onto a model, check it, and place the source as in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from comfy_api.v0_0_2 import io, ui

from ..byg_train.models.lora_file import COMFY_SAMPLERS, LoraInfo
from .host import lora as host
from .host.canvas import show_text
from .host.sampling import set_shift
from .host.source import leave_out_source, place_source, set_expert
from .lora_choice import ALONE, PAIR, SAME, Loaded, base_name, chosen, partner
from .sockets import INFO, advanced, reporting, schema, to_text

NAME = "ByG Loader"
ERROR, WARN = "error", "warn"
POSITIONS = {"auto": None, "own index": "index", "shared with the target": "shared"}
WARNING = "WARNING"
TRAINED, AS_IS = "as trained", "as the model is"
# How many names of an overlong list a message shows.
SHOWN = 3


class Loader(io.ComfyNode):
    """Loads a LoRA onto a MODEL and checks that it fits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = host.lora_names()
        return schema(
            "ByG_Loader",
            "ByG/loaders",
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("lora_name", options=names),
                io.Float.Input("strength", default=1.0, min=-100.0, max=100.0, step=0.01),
                io.Model.Input("model_low", optional=True),
                advanced(
                    io.Combo.Input(
                        "lora_low_name", options=[PAIR, SAME, ALONE, *names], default=PAIR
                    )
                ),
                advanced(io.Combo.Input("on_mismatch", options=[ERROR, WARN], default=ERROR)),
                advanced(
                    io.Combo.Input("source_positions", options=list(POSITIONS), default="auto")
                ),
                advanced(io.Combo.Input("schedule", options=[TRAINED, AS_IS], default=TRAINED)),
                advanced(
                    io.Float.Input("strength_low", default=1.0, min=-100.0, max=100.0, step=0.01)
                ),
            ],
            outputs=[
                io.Model.Output("patched"),
                io.Model.Output("patched_low"),
                INFO.Output("info"),
                io.String.Output("report"),
            ],
            found_by=["edit lora", "load byg", "unpaired edit", "lora loader"],
        )

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
        strength_low: float = 1.0,
    ) -> list[tuple[str, int, int]]:
        """Load a file again that was trained further under the same name."""
        low = partner(lora_name) if lora_low_name == PAIR else lora_low_name
        names = [lora_name, *({low} - {lora_name, SAME, ALONE})]
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
        strength_low: float = 1.0,
    ) -> io.NodeOutput:
        with reporting(NAME):
            high, low = chosen(lora_name, lora_low_name, model, model_low)
            info = (high or low).info
            info = replace(info, reference_mode=POSITIONS[source_positions] or info.reference_mode)
            shift = info.shift if schedule == TRAINED else None
            setup = Setup(info, shift, on_mismatch)
            expert = info.expert if model_low is None else "high"
            patched, lines = _patched(model, high, strength, expert, setup)
            patched_low = None
            if model_low is not None:
                patched_low, more = _patched(model_low, low, strength * strength_low, "low", setup)
                lines += more
            alone = model_low is not None and None in (high, low)
            report = to_text(_report(info, (high or low).file.ranks, lines, alone))
        show_text(report)
        return io.NodeOutput(patched, patched_low, info, report, ui=ui.PreviewText(report))


class Setup(NamedTuple):
    """What both models of a pair share."""

    info: LoraInfo
    shift: float | None  # of the schedule; None: the model's own
    on_mismatch: str


def _patched(
    model: Any, lora: Loaded | None, strength: float, expert: str | None, setup: Setup
) -> tuple[Any, list[str]]:
    """Clone a model with its LoRA, its source's place and its schedule; also returns a report.

    Without a LoRA it is the base, which is not shown the source.
    """
    info, shift, mismatch = setup
    if lora is None:
        clone, lines = model.clone(), []
        leave_out_source(clone)
    else:
        clone, lines = _applied(model, lora, strength, mismatch)
        place_source(clone, info.reference_mode)
    if expert is not None and info.boundary is not None:
        set_expert(clone, expert, info.boundary)
    if shift is not None:
        set_shift(clone, shift)
    return clone, lines


def _applied(model: Any, lora: Loaded, strength: float, mismatch: str) -> tuple[Any, list[str]]:
    """Clone a model with the LoRA on it; also returns the report."""
    applied = host.apply_lora(model, lora.file, strength)
    matched = applied.total - len(applied.unknown) - len(applied.misfits)
    lines = [f"{lora.name}: {matched} of {applied.total} modules matched"]
    if matched < applied.total:
        problem = _problem(lora, applied, host.model_name(model))
        if mismatch == ERROR:
            raise ValueError(problem)
        lines.append(f"{WARNING}: {problem}")
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
        f"{base_name(lora.info)}: load that, or set on_mismatch to warn"
    )


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _report(info: LoraInfo, ranks: str, lines: list[str], alone: bool) -> list[str]:
    """What the node says, what an artist needs first: the frontend shows a dozen lines at once."""
    warnings = [line for line in lines if line.startswith(WARNING)]
    matches = [line for line in lines if line not in warnings]
    if alone:
        matches.append("the other expert has no LoRA, and is not shown the source")
    return [*warnings, *_taught(info), _how(info), *matches, *_training(info, ranks)]


def _taught(info: LoraInfo) -> list[str]:
    """What the LoRA was taught: of every kind of edit the most trained first, then the next."""
    known = info.instructions
    if not known:
        return []
    more = f" ({len(known) - SHOWN} more: add a ByG Instruction)" if len(known) > SHOWN else ""
    # The empty line ends the list in Markdown.
    return [f"it was taught{more}:", *(f"- {text}" for text in known[:SHOWN]), ""]


def _how(info: LoraInfo) -> str:
    """What an artist sets elsewhere."""
    sampler = COMFY_SAMPLERS[info.sampler]
    how = f"sample with {info.sample_steps} steps, {sampler}, simple, {_cfg(info)}"
    if info.guidance_sample is not None:
        how += f", guidance {info.guidance_sample:g} (set by ByG Image Edit)"
    if info.sampler == "renoise":
        how += ", or with ByG Few Steps: a LoRA for few steps, which needs no turbo LoRA"
    return how


def _training(info: LoraInfo, ranks: str) -> list[str]:
    lines = [
        f"base {info.base}, {info.steps} training steps at {info.resolution} px, rank {ranks}",
        f"source positions: {info.reference_mode}",
    ]
    if info.expert is not None:
        lines.append(f"expert {info.expert}, boundary {info.boundary}")
    if info.negative:
        lines.append(f"negative: {info.negative}")
    return lines


def _cfg(info: LoraInfo) -> str:
    high, low = info.cfg_pair
    return f"cfg {high:g}" if high == low else f"cfg {high:g}, then {low:g} at low noise"


NODE = Loader
