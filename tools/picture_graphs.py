"""Example graphs for pictures."""

from __future__ import annotations

from typing import Any

from .canvas import Canvas, Placed, Socket
from .kits import Base, Kit
from .parts import (
    NEGATIVE,
    REPORT,
    SAID,
    SEED,
    SLIDER,
    Note,
    add_captions,
    add_few_steps,
    add_finish,
    add_inspection,
    add_loader,
    add_models,
    add_noise_and_sampler,
    add_note,
    add_text,
)

SAMPLER = {"sampler_name": "euler", "scheduler": "simple"}


def _picture(c: Canvas, base: Base) -> tuple[Socket, Socket | None]:
    """The picture to edit and its mask."""
    if base.picture is not None:
        return base.picture, None
    load = c.add("LoadImage", {"image": "example.png"}, height=340)
    return load["IMAGE"], load["MASK"]


def _edit(
    c: Canvas, kit: Kit, base: Base, loader: Placed, image: Socket, text: str = "", **more: Any
) -> Placed:
    """The kit's instruction, or another one, and what it is said of."""
    given = {"positive": add_text(c, base, text or kit.instruction)}
    if kit.cfg[0] > 1:
        given["negative"] = add_text(c, base, kit.negative, NEGATIVE)
    given |= {"vae": base.vae, "image": image, "info": loader["info"]}
    return c.add("ByG_ImageEdit", {**given, **more}, spare=SAID)


def _sampled(c: Canvas, kit: Kit, base: Base, model: Socket, edit: Placed) -> Socket:
    """KSampler, VAE Decode and ByG Finish: pictures."""
    given = {
        "model": model,
        **{name: edit[name] for name in ("positive", "negative")},
        "latent_image": edit["latent"],
        "seed": SEED,
        "steps": kit.steps,
        "cfg": kit.cfg[0],
        **SAMPLER,
    }
    latent = c.add("KSampler", given)["LATENT"]
    return add_finish(c, base, latent, edit)["images"]


def _guider(c: Canvas, kit: Kit, model: Socket, edit: Placed) -> Socket:
    if kit.cfg[0] == 1:
        given = {"model": model, "conditioning": edit["positive"]}
        return c.add("BasicGuider", given)["GUIDER"]
    texts = {name: edit[name] for name in ("positive", "negative")}
    return c.add("CFGGuider", {"model": model, **texts, "cfg": kit.cfg[0]})["GUIDER"]


def _save(c: Canvas, images: Socket, prefix: str, height: int = 340) -> None:
    c.add("SaveImage", {"images": images, "filename_prefix": prefix}, height=height)


def _compared(c: Canvas, a: Socket, b: Socket, height: int, **widgets: str) -> Placed:
    """The slider, so many pixels high."""
    return c.add("ByG_Compare", {"a": a, "b": b, **widgets}, spare=height)


def _difference(c: Canvas, a: Socket, b: Socket, height: int) -> None:
    image = _compared(c, a, b, SLIDER, mode="difference x4")["image"]
    c.add("PreviewImage", {"images": image}, height=height)


def _asked(c: Canvas, kit: Kit, note: Note) -> tuple[Base, Placed, Socket, Placed]:
    """Note, models, LoRA, picture and instruction: how every edit begins."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage(f"2  {kit.yours}", 340, to_set=True):
        loader = add_loader(c, kit, base)
        image, _ = _picture(c, base)
    with c.stage("3  What to change", 380, to_set=True):
        edit = _edit(c, kit, base, loader, image)
    return base, loader, image, edit


def image_edit(c: Canvas, kit: Kit, note: Note) -> None:
    """A picture, an instruction, a result."""
    base, loader, image, edit = _asked(c, kit, note)
    with c.stage("4  Sample", 320):
        (model,) = add_models(c, kit, loader)
        images = _sampled(c, kit, base, model, edit)
    _saved_and_compared(c, kit, image, images)


def few_steps(c: Canvas, kit: Kit, note: Note) -> None:
    """The same in few steps, as `byg_train edit` samples them."""
    base, loader, image, edit = _asked(c, kit, note)
    with c.stage("4  Sample in few steps", 340):
        few = add_few_steps(c, kit, loader, edit)
        given = {name: few[name] for name in ("noise", "sampler", "sigmas")}
        given |= {"guider": _guider(c, kit, loader["model"], edit), "latent_image": edit["latent"]}
        latent = c.add("SamplerCustomAdvanced", given)["output"]
        images = add_finish(c, base, latent, edit)["images"]
    _saved_and_compared(c, kit, image, images)


def _saved_and_compared(c: Canvas, kit: Kit, image: Socket, images: Socket) -> None:
    with c.stage("5  Result", 440):
        if kit.small:  # too small to be seen as it is
            _compared(c, image, images, 320)
            _save(c, images, kit.prefix, 280)
        else:
            _save(c, images, kit.prefix)
            _compared(c, image, images, 320)


def mask_edit(c: Canvas, kit: Kit, note: Note) -> None:
    """The same inside a painted mask."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage("2  LoRA, picture, mask", 340, to_set=True):
        loader = add_loader(c, kit, base)
        image, mask = _picture(c, base)
    with c.stage("3  What to change", 380, to_set=True):
        edit = _edit(c, kit, base, loader, image, mask=mask, size_mode="around the mask")
    with c.stage("4  Sample", 320):
        images = _sampled(c, kit, base, loader["model"], edit)
    with c.stage("5  Result", 440):
        _save(c, images, f"{kit.prefix}_mask")
        _difference(c, image, images, 220)


def folder_style(c: Canvas, kit: Kit, note: Note) -> None:
    """Every picture of a folder."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage("2  Your LoRA and folder", 340, to_set=True):
        loader = add_loader(c, kit, base)
        image = c.add("LoadImageDataSetFromFolder", {"folder": "my_pictures"})["images"]
    with c.stage("3  What to change", 380, to_set=True):
        edit = _edit(c, kit, base, loader, image)
    with c.stage("4  Sample", 320):
        images = _sampled(c, kit, base, loader["model"], edit)
    with c.stage("5  Results", 440):
        _save(c, images, "ByG/folder", 560)


def cycle_check(c: Canvas, kit: Kit, note: Note) -> None:
    """Edited, edited back, and compared with the source."""
    base, loader, image, edit = _asked(c, kit, note)
    with c.stage("There", 320):
        there = _sampled(c, kit, base, loader["model"], edit)
    with c.stage("4  The way back", 380, to_set=True):
        back = _edit(c, kit, base, loader, there, kit.reverse)
    with c.stage("Back again", 320):
        again = _sampled(c, kit, base, loader["model"], back)
    with c.stage("5  Result", 440):
        _save(c, there, f"{kit.prefix}_there", 300)
        _compared(c, image, again, 280, label_b="back again")
    with c.stage("6  What was lost", 440):
        _difference(c, image, again, 380)


def debug(c: Canvas, kit: Kit, note: Note) -> None:
    """One-step predictions beside the result."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage(f"2  {kit.yours}", 340, to_set=True):
        loader = add_loader(c, kit, base)
        image, _ = _picture(c, base)
    with c.stage("3  What to change", 380, to_set=True):
        edit = _edit(c, kit, base, loader, image)
        src, tgt = add_captions(c, kit, base)
    with c.stage("4  How to sample", 320):
        guider = _guider(c, kit, loader["model"], edit)
        given = {"model": loader["model"], "scheduler": "simple", "steps": kit.steps}
        sigmas = c.add("BasicScheduler", given)["SIGMAS"]
        parts = {"guider": guider, "sigmas": sigmas, **add_noise_and_sampler(c, "euler")}
    with c.stage("5  Debug", 340):
        probes = {"base_model": base.model, "src_caption": src, "tgt_caption": tgt}
        latent = {"latent_image": edit["latent"], "vae": base.vae, "source": image}
        found = c.add("ByG_Debug", {**parts, **latent, **probes}, spare=REPORT)
        finished = add_finish(c, base, found["output"], edit)
    add_inspection(c, found)
    with c.stage("7  Result", 380):
        _save(c, finished["images"], f"{kit.prefix}_debug")
