"""Example graphs for clips: two experts, one after the other, or one network."""

from __future__ import annotations

from .canvas import Canvas, Placed, Socket
from .kits import WAN_KIT, Base, Kit
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
    add_instruction,
    add_loader,
    add_models,
    add_noise_and_sampler,
    add_note,
    add_text,
)

EXPERTS = ("High noise", "Low noise")  # titles of what each of them has
SAMPLER = {"sampler_name": WAN_KIT.sampler, "scheduler": "simple"}


def _clip(c: Canvas, base: Base) -> dict[str, Socket]:
    if base.picture is not None:
        return {"frames": base.picture}
    return {"video": c.add("LoadVideo", {"file": "clip.mp4"}, height=380)["VIDEO"]}


def _video_edit(c: Canvas, kit: Kit, base: Base, loader: Placed, clip: dict) -> Placed:
    texts = {"positive": add_instruction(c, kit, base, loader)}
    texts["negative"] = add_text(c, base, kit.negative, NEGATIVE)
    given = {**texts, "vae": base.vae, "info": loader["info"], "fps": kit.fps, **clip}
    given |= {} if kit.window is None else {"length": 0}
    return c.add("ByG_VideoEdit", given, spare=SAID)


def _compared_clip(c: Canvas, kit: Kit, finished: Placed, edit: Placed) -> None:
    # What the model sees, at the size, length and rate of the clip again: the source's part.
    given = {"images": edit["frames"], "fit": edit["fit"]}
    source = c.add("ByG_Finish", given, title="The source, to compare")["images"]
    mode = "side by side" if kit.small else "wipe"  # of which the first enlarges
    given = {"a": source, "b": finished["images"], "mode": mode, "fps": edit["fps"]}
    frames = c.add("ByG_Compare", given, spare=SLIDER)["image"]
    video = c.add("CreateVideo", {"images": frames, "fps": edit["fps"]})["VIDEO"]
    c.add("SaveVideo", {"video": video, "filename_prefix": f"{kit.prefix}_compare"}, height=380)


def _saved_and_compared(c: Canvas, kit: Kit, finished: Placed, edit: Placed, stage: int) -> None:
    with c.stage(f"{stage}  Result", 440):
        given = {"video": finished["video"], "filename_prefix": kit.prefix}
        c.add("SaveVideo", given, height=560)
    with c.stage(f"{stage + 1}  Beside the source", 440):
        _compared_clip(c, kit, finished, edit)


def _asked(c: Canvas, kit: Kit, note: Note) -> tuple[Base, Placed, Placed]:
    """Note, models, LoRA, clip and instruction: how every edit begins."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage(f"2  {kit.yours}", 360, to_set=True):
        loader = add_loader(c, kit, base)
        clip = _clip(c, base)
    with c.stage("3  What to change", 380, to_set=True):
        edit = _video_edit(c, kit, base, loader, clip)
    return base, loader, edit


def video_edit(c: Canvas, kit: Kit, note: Note) -> None:
    """A clip through both experts."""
    base, loader, edit = _asked(c, kit, note)
    with c.stage("4  Steps for each expert", 360):
        models = add_models(c, kit, loader)
        steps = c.add("PrimitiveInt", {"value": kit.steps}, title="Steps of both together")["INT"]
        given = {"model": models[0], "steps": steps, "sampler_name": kit.sampler}
        split = c.add("ByG_ExpertSplit", given)
    with c.stage("5  High noise, then low", 340):
        latent = _two_experts(c, kit, models, edit, steps, split["split_step"])
        finished = add_finish(c, base, latent, edit)
    _saved_and_compared(c, kit, finished, edit, 6)


def video_edit_5b(c: Canvas, kit: Kit, note: Note) -> None:
    """A clip through the one network of the 5B."""
    base, loader, edit = _asked(c, kit, note)
    with c.stage("4  Sample", 340):
        texts = {name: edit[name] for name in ("positive", "negative")}
        how = {"seed": SEED, "steps": kit.steps, "cfg": kit.cfg[0], **SAMPLER}
        given = {"model": loader["model"], "latent_image": edit["latent"], **texts, **how}
        finished = add_finish(c, base, c.add("KSampler", given)["LATENT"], edit)
    _saved_and_compared(c, kit, finished, edit, 5)


def few_steps(c: Canvas, kit: Kit, note: Note) -> None:
    """A clip through both experts in few steps, as `byg_train edit` samples them."""
    base, loader, edit = _asked(c, kit, note)
    with c.stage("4  Steps for each expert", 340):
        few = add_few_steps(c, kit, loader, edit)
    with c.stage("5  High noise, then low", 340):
        latent, noise, sigmas = edit["latent"], few["noise"], few["sigmas"]
        for title, name, cfg in zip(EXPERTS, ("model", "model_low"), kit.cfg, strict=True):
            guider = _guider(c, loader[name], edit, cfg, title)
            latent = _custom(c, few, guider, latent, noise=noise, sigmas=sigmas)
            if name == "model":
                noise, sigmas = c.add("DisableNoise", {})["NOISE"], few["low_sigmas"]
        finished = add_finish(c, base, latent, edit)
    _saved_and_compared(c, kit, finished, edit, 6)


def few_steps_5b(c: Canvas, kit: Kit, note: Note) -> None:
    """The same through one network."""
    base, loader, edit = _asked(c, kit, note)
    with c.stage("4  Sample in few steps", 340):
        few = add_few_steps(c, kit, loader, edit)
        guider = _guider(c, loader["model"], edit, kit.cfg[0])
        whole = {name: few[name] for name in ("noise", "sigmas")}
        latent = _custom(c, few, guider, edit["latent"], **whole)
        finished = add_finish(c, base, latent, edit)
    _saved_and_compared(c, kit, finished, edit, 5)


def _guider(c: Canvas, model: Socket, edit: Placed, cfg: float, title: str | None = None) -> Socket:
    texts = {name: edit[name] for name in ("positive", "negative")}
    return c.add("CFGGuider", {"model": model, **texts, "cfg": cfg}, title=title)["GUIDER"]


def _custom(
    c: Canvas, few: Placed, guider: Socket, latent: Socket, *, noise: Socket, sigmas: Socket
) -> Socket:
    given = {"noise": noise, "guider": guider, "sampler": few["sampler"], "sigmas": sigmas}
    return c.add("SamplerCustomAdvanced", {**given, "latent_image": latent})["output"]


def _two_experts(
    c: Canvas, kit: Kit, models: list[Socket], edit: Placed, steps: Socket, at: Socket
) -> Socket:
    common = {
        "noise_seed": SEED,
        "steps": steps,
        "positive": edit["positive"],
        "negative": edit["negative"],
        **SAMPLER,
        "sampler_name": kit.sampler,
    }
    first = {
        "model": models[0],
        "latent_image": edit["latent"],
        "add_noise": "enable",
        "cfg": kit.cfg[0],
        "start_at_step": 0,
        "end_at_step": at,
        "return_with_leftover_noise": "enable",
    }
    noisy = c.add("KSamplerAdvanced", {**common, **first}, title="High noise")["LATENT"]
    second = {
        "model": models[1],
        "latent_image": noisy,
        "add_noise": "disable",
        "cfg": kit.cfg[1],
        "start_at_step": at,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    return c.add("KSamplerAdvanced", {**common, **second}, title="Low noise")["LATENT"]


def video_debug(c: Canvas, kit: Kit, note: Note) -> None:
    """The same with one-step predictions of both experts."""
    add_note(c, note)
    base = kit.load(c)
    with c.stage(f"2  {kit.yours}", 360, to_set=True):
        loader = add_loader(c, kit, base)
        clip = _clip(c, base)
    with c.stage("3  What to change", 380, to_set=True):
        edit = _video_edit(c, kit, base, loader, clip)
        src, tgt = add_captions(c, kit, base)
    with c.stage("4  How to sample", 340):
        split = c.add("ByG_ExpertSplit", {"model": loader["model"], "steps": kit.steps})
        high, low = (
            _guider(c, loader[name], edit, cfg, title)
            for title, name, cfg in zip(EXPERTS, ("model", "model_low"), kit.cfg, strict=True)
        )
        parts = add_noise_and_sampler(c, SAMPLER["sampler_name"])
    with c.stage("5  Debug", 360):
        both = {"guider": high, "sigmas": split["high_sigmas"]}
        both |= {"guider_low": low, "low_sigmas": split["low_sigmas"]}
        bases = {"base_model": base.model, "base_model_low": base.model_low}
        probes = {**bases, "src_caption": src, "tgt_caption": tgt}
        latent = {"latent_image": edit["latent"], "vae": base.vae}
        found = c.add("ByG_Debug", {**parts, **both, **latent, **probes}, spare=REPORT)
        finished = add_finish(c, base, found["output"], edit)
    add_inspection(c, found)
    with c.stage("7  Result", 440):
        given = {"video": finished["video"], "filename_prefix": f"{kit.prefix}_debug"}
        c.add("SaveVideo", given, height=560)
