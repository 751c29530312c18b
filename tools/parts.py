"""What the example graphs have in common."""

from __future__ import annotations

from typing import NamedTuple

from .canvas import Canvas, Model, Placed, Socket
from .kits import Base, Kit

NOTE_WIDTH = 420
REPORT = 220  # pixels in which ByG Loader and ByG Debug show what they say, after a run
SAID = 90  # the same of the nodes that say less
SLIDER = 220  # and ByG Compare its slider
SEED = 7
NEGATIVE = "Negative (for cfg above 1)"  # title of its text
OVERLAP = 30  # frames that two windows of a long clip share


class Note(NamedTuple):
    """What stands beside a graph."""

    text: str
    height: int  # pixels that the frontend needs for it


def add_note(c: Canvas, note: Note) -> None:
    with c.stage("Read me", NOTE_WIDTH):
        c.note(note.text, note.height)


def add_loader(c: Canvas, kit: Kit, base: Base) -> Placed:
    low = {} if base.model_low is None else {"model_low": base.model_low}
    given = {"model": base.model, "lora_name": kit.lora, **low}
    return c.add("ByG_Loader", given, spare=REPORT)


def add_text(c: Canvas, base: Base, text: str | Socket, title: str = "Instruction") -> Socket:
    given = {"clip": base.clip, "text": text}
    return c.add("CLIPTextEncode", given, title=title, height=120)["CONDITIONING"]


def add_instruction(c: Canvas, kit: Kit, base: Base, loader: Placed) -> Socket:
    """What to do, in the artist's words or from the list of what the LoRAs know."""
    if not kit.listed:
        return add_text(c, base, kit.instruction)
    given = {"instruction": kit.instruction, "info": loader["info"]}
    return add_text(c, base, c.add("ByG_Instruction", given, spare=SAID)["text"])


def add_models(c: Canvas, kit: Kit, loader: Placed) -> list[Socket]:
    """The models for the samplers: behind ByG Loader what makes them quick, or long clips fit."""
    models = [loader[name] for name in ("model", "model_low")[: 1 + ("_high_noise" in kit.lora)]]
    if kit.turbo is not None:
        models = [_quick(c, kit, *pair) for pair in zip(models, kit.turbo.files, strict=True)]
    if kit.window is not None:
        cut = {"context_length": kit.window, "context_overlap": OVERLAP}
        models = [c.add("WanContextWindowsManual", {"model": m, **cut})["MODEL"] for m in models]
    return models


def _quick(c: Canvas, kit: Kit, model: Socket, file: Model) -> Socket:
    given = {"model": model, "lora_name": file.name, "strength_model": kit.turbo.strength}
    model = c.add("LoraLoaderModelOnly", given, models=(file,))["MODEL"]
    if kit.turbo.shift is None:
        return model
    return c.add("ModelSamplingSD3", {"model": model, "shift": kit.turbo.shift})["MODEL"]


def add_finish(c: Canvas, base: Base, latent: Socket, edit: Placed) -> Placed:
    images = c.add("VAEDecode", {"samples": latent, "vae": base.vae})["IMAGE"]
    return c.add("ByG_Finish", {"images": images, "fit": edit["fit"]})


def add_captions(c: Canvas, kit: Kit, base: Base) -> list[Socket]:
    titles = ("The source in words", "The wanted result in words")
    return [add_text(c, base, t, title) for t, title in zip(kit.captions, titles, strict=True)]


def add_noise_and_sampler(c: Canvas, sampler: str) -> dict[str, Socket]:
    noise = c.add("RandomNoise", {"noise_seed": SEED})["NOISE"]
    chosen = c.add("KSamplerSelect", {"sampler_name": sampler})["SAMPLER"]
    return {"noise": noise, "sampler": chosen}


def add_few_steps(c: Canvas, kit: Kit, loader: Placed, edit: Placed) -> Placed:
    """Noise, sampler and schedule of a LoRA for few steps; 0 steps: as it says itself."""
    given = {"info": loader["info"], "latent_image": edit["latent"], "steps": kit.steps}
    return c.add("ByG_FewSteps", {**given, "noise_seed": SEED}, spare=SAID)


def add_inspection(c: Canvas, found: Placed) -> None:
    with c.stage("6  One step beside many", 860):
        c.add("PreviewImage", {"images": found["grid"]}, height=640)
        c.add("PreviewAny", {"source": found["report"]}, title="Report", height=300)
