"""What the example graphs have in common."""

from __future__ import annotations

from typing import NamedTuple

from .canvas import Canvas, Placed, Socket
from .kits import Base, Kit

NOTE_WIDTH = 420
REPORT = 120  # pixels in which a node shows what it says, after a run
SEED = 7
NEGATIVE = "Negative (for cfg above 1)"  # title of its text


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


def add_text(c: Canvas, base: Base, text: str, title: str = "Instruction") -> Socket:
    given = {"clip": base.clip, "text": text}
    return c.add("CLIPTextEncode", given, title=title, height=120)["CONDITIONING"]


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


def add_inspection(c: Canvas, found: Placed) -> None:
    with c.stage("6  One step beside many", 860):
        c.add("PreviewImage", {"images": found["grid"]}, height=640)
        c.add("PreviewAny", {"source": found["report"]}, title="Report", height=300)
