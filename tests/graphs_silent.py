"""Graphs that would give noise without a word: every one of them raises (see graphs.py).

Those whose models are wired in another way stand in graphs_wired.py.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import SimpleNamespace

import torch
from comfy_host import call
from graphs import SEED, SMALL, encoded, image_edit, pack, world
from graphs_wan import video_edit, wan, wan_vae, words
from torch import Tensor

ADD = {"add_noise": "enable", "return_with_leftover_noise": "enable"}
GO_ON = {"add_noise": "disable", "return_with_leftover_noise": "disable"}


def pair(lora: str, **widgets: object) -> tuple:
    """model, model_low, info of ByG Loader for two tiny Wans."""
    return call("ByG_Loader", model=wan(0), model_low=wan(1), lora_name=lora, **widgets)[:3]


def sampled(
    models: tuple,
    found: dict,
    steps: int = 4,
    split: int | None = None,
    cfg: float = 2.0,
    sampler: str = "euler",
) -> Tensor:
    """Two samplers, one for each model; without `split` where ByG Expert Split puts it."""
    if split is None:
        given = {"model": models[0], "steps": steps, "sampler_name": sampler}
        split = call("ByG_ExpertSplit", **given)[2]
    common = {"steps": steps, "cfg": cfg, "sampler_name": sampler}
    noisy = _first_half(models[0], found, split, **common)
    return _second_half(models[1], found, noisy, split, **common)


def _first_half(model: object, found: dict, split: int, **common: object) -> dict:
    steps = {"start_at_step": 0, "end_at_step": split}
    return _half(found, model=model, latent_image=found["latent"], **steps, **ADD, **common)


def _second_half(model: object, found: dict, noisy: dict, split: int, **common: object) -> Tensor:
    steps = {"start_at_step": split, "end_at_step": 10000}
    given = {"model": model, "latent_image": noisy, **steps, **GO_ON, **common}
    return _half(found, **given)["samples"]


def _half(found: dict, **given: object) -> dict:
    texts = {side: found[side] for side in ("positive", "negative")}
    return call("KSamplerAdvanced", noise_seed=SEED, scheduler="simple", **texts, **given)[0]


def right(lora: str, frames: Tensor) -> Tensor:
    """The graph as it should be."""
    *models, info = pair(lora)
    return sampled(models, video_edit(frames, info=info, size_mode="as trained"))


# ---------------------------------------------------------------- samplers


def split_at(lora: str, frames: Tensor, split: int, steps: int = 4) -> Tensor:
    """The samplers take over at another step."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    return sampled(models, found, steps, split)


def with_sampler(
    lora: str, frames: Tensor, sampler: str, split_for: str, steps: int
) -> tuple[int, Tensor]:
    """The samplers take over where ByG Expert Split says for a sampler, maybe another."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    given = {"model": models[0], "steps": steps, "sampler_name": split_for}
    split = call("ByG_ExpertSplit", **given)[2]
    return split, sampled(models, found, steps, split, 1.0, sampler)


def one_sampler(lora: str, frames: Tensor) -> Tensor:
    """The high-noise model samples all steps."""
    model, _, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    return call(
        "KSampler", model=model, seed=SEED, steps=4, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=found["positive"], negative=found["negative"],
        latent_image=found["latent"], denoise=1.0,
    )[0]["samples"]  # fmt: skip


# ---------------------------------------------------------------- conditionings


def negative_past_the_edit(lora: str, frames: Tensor, cfg: float) -> Tensor:
    """The negative text goes to the samplers by itself."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    return sampled(models, {**found, "negative": words(3)}, cfg=cfg)


def combined(lora: str, frames: Tensor) -> Tensor:
    """A second text without a source beside the first."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    both = {"conditioning_1": found["positive"], "conditioning_2": words(3)}
    return sampled(models, {**found, "positive": call("ConditioningCombine", **both)[0]})


def hooked(lora: str, other: str, frames: Tensor) -> tuple[Tensor, ...]:
    """Another trainer's LoRA as a hook of both texts, behind ByG Loader, and not at all."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    given = {"lora_name": other, "strength_model": 0.5}
    behind = [call("LoraLoaderModelOnly", model=model, **given)[0] for model in models]
    return sampled(models, _with_hook(found, given)), sampled(behind, found), sampled(models, found)


def hooked_alone(lora: str, frames: Tensor) -> Tensor:
    """ByG's own LoRA as a hook, in place of ByG Loader."""
    found = video_edit(frames, info=pair(lora)[2], size_mode="as trained")
    split = call("ByG_ExpertSplit", model=wan(0), steps=4, shift=12.0)[2]
    given = {"lora_name": lora, "strength_model": 1.0}
    return sampled((wan(0), wan(1)), _with_hook(found, given), split=split)


def _with_hook(found: dict, given: dict) -> dict:
    hooks = call("CreateHookLoraModelOnly", **given)[0]
    texts = {
        side: call("ConditioningSetProperties", cond_NEW=found[side], hooks=hooks)[0]
        for side in ("positive", "negative")
    }
    return {**found, **texts}


def picture_negative(lora: str, image: Tensor, cfg: float) -> Tensor:
    """The same with pictures."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found = image_edit(image, SMALL)
    return _sampled_picture(model, {**found, "negative": encoded("ugly")}, cfg)


def _sampled_picture(model: object, found: dict, cfg: float = 1.0) -> Tensor:
    return call(
        "KSampler", model=model, seed=SEED, steps=2, cfg=cfg, sampler_name="euler",
        scheduler="simple", positive=found["positive"], negative=found["negative"],
        latent_image=found["latent"],
    )[0]["samples"]  # fmt: skip


def shared_picture(lora: str, image: Tensor, ours: bool) -> Tensor:
    """A FLUX LoRA whose source shares the target's positions, by our loader or the stock one."""
    model, _, info, _ = call("ByG_Loader", model=world()[0], lora_name=lora)
    if not ours:
        model = call("LoraLoaderModelOnly", model=world()[0], lora_name=lora)[0]
    return _sampled_picture(model, image_edit(image, {}, info))


def other_info(lora: str, other: str, image: Tensor) -> Tensor:
    """`info` of one Loader, `model` of another."""
    model = call("ByG_Loader", model=world()[0], lora_name=other)[0]
    info = call("ByG_Loader", model=world()[0], lora_name=lora)[2]
    return _sampled_picture(model, image_edit(image, {}, info))


def guided(lora: str, frames: Tensor, guider: str) -> Tensor:
    """Guiders that mix the sides in their own ways, with a text that went past the Edit node."""
    model, _, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    texts, plain = (found["positive"], found["negative"]), words(3)
    given = {
        "DualCFGGuider": {
            "cond1": texts[0], "cond2": texts[1], "negative": plain, "cfg_conds": 1.0,
            "cfg_cond2_negative": 2.0,
        },
        "PerpNegGuider": {
            "positive": texts[0], "negative": plain, "empty_conditioning": texts[1], "cfg": 1.0,
            "neg_scale": 1.0,
        },
        "DualModelGuider": {
            "positive": texts[0], "negative": texts[1], "model_negative": wan(1), "cfg": 2.0,
        },
    }[guider]  # fmt: skip
    high = call("ByG_ExpertSplit", model=model, steps=4)[0]
    made = call(guider, model=model, **given)[0]
    return _custom(made, high, found["latent"])


def _custom(guider: object, sigmas: Tensor, latent: dict) -> Tensor:
    noise, sampler = call("RandomNoise", noise_seed=SEED)[0], call("KSamplerSelect")[0]
    given = {"noise": noise, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    return call("SamplerCustomAdvanced", guider=guider, **given)[0]["samples"]


def scheduled(lora: str, image: Tensor, scheduler: str) -> Tensor:
    """A picture by a scheduler of another kind of model."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found, sigmas = image_edit(image, SMALL), call(scheduler, steps=2)[0]
    guider = call("BasicGuider", model=model, conditioning=found["positive"])[0]
    return _custom(guider, sigmas, found["latent"])


def placed(lora: str, image: Tensor, method: str) -> Tensor:
    """A node behind the Edit node chooses where FLUX puts the source."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found, node = image_edit(image, SMALL), "FluxKontextMultiReferenceLatentMethod"
    given = {"conditioning": found["positive"], "reference_latents_method": method}
    return _sampled_picture(model, {**found, "positive": call(node, **given)[0]})


def two_sources(lora: str, image: Tensor, other: Tensor) -> Tensor:
    """The texts of two Edit nodes whose pictures differ in size, combined."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found, wide = image_edit(image, SMALL), image_edit(other, {**SMALL, "width": 64})
    both = {"conditioning_1": found["positive"], "conditioning_2": wide["positive"]}
    return _sampled_picture(model, {**found, "positive": call("ConditioningCombine", **both)[0]})


# ---------------------------------------------------------------- latents


def through(lora: str, frames: Tensor, node: str) -> Tensor:
    """A stock node that enlarges the latent stands behind the Edit node."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    given = {"LatentUpscaleBy": {"scale_by": 2.0}, "LatentUpscale": {"width": 64, "height": 64}}
    latent = call(node, samples=found["latent"], upscale_method="bilinear", **given[node])[0]
    return sampled(models, {**found, "latent": latent})


def other_latent(lora: str, frames: Tensor, shape: tuple, windows: bool = False) -> Tensor:
    """A latent that did not come from ByG Video Edit."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    if windows:
        cut = {"context_length": 5, "context_overlap": 1}
        models = [call("WanContextWindowsManual", model=m, **cut)[0] for m in models]
    latent = {"samples": torch.zeros(shape)}
    return sampled(models, {**found, "latent": latent})


def upscaled_between(lora: str, frames: Tensor) -> Tensor:
    """The high-noise result is enlarged before the low-noise sampler."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    split = call("ByG_ExpertSplit", model=models[0], steps=4)[2]
    common = {"steps": 4, "cfg": 1.0, "sampler_name": "euler"}
    noisy = _first_half(models[0], found, split, **common)
    larger = torch.nn.functional.interpolate(noisy["samples"], scale_factor=(1, 2, 2))
    return _second_half(models[1], found, {"samples": larger}, split, **common)


def picture_of_a_batch(lora: str, images: Tensor) -> Tensor:
    """Latent From Batch takes one of three."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found = image_edit(images, SMALL)
    one = call("LatentFromBatch", samples=found["latent"], batch_index=1, length=1)[0]
    return _sampled_picture(model, {**found, "latent": one})


def repeated(image: Tensor, times: int) -> Tensor:
    """Repeat Latent Batch into ByG Finish."""
    found = image_edit(image, SMALL)
    latent = call("RepeatLatentBatch", samples=found["latent"], amount=times)[0]
    images = call("VAEDecode", vae=world()[2], samples=latent)[0]
    return call("ByG_Finish", images=images, fit=found["fit"])[0]


def latents_of_two(image: Tensor, other: Tensor) -> Tensor:
    """Latent Batch of two Edit nodes into the ByG Finish of one."""
    found, second = image_edit(image, SMALL), image_edit(other, SMALL)
    both = {"samples1": found["latent"], "samples2": second["latent"]}
    images = call("VAEDecode", vae=world()[2], samples=call("LatentBatch", **both)[0])[0]
    return call("ByG_Finish", images=images, fit=found["fit"])[0]


def repeated_clip(frames: Tensor, times: int) -> Tensor:
    """The same with a clip."""
    found = video_edit(frames)
    latent = call("RepeatLatentBatch", samples=found["latent"], amount=times)[0]
    images = call("VAEDecode", vae=wan_vae(), samples=latent)[0]
    return call("ByG_Finish", images=images, fit=found["fit"])[0]


# ---------------------------------------------------------------- files and texts


def said_after(*names: str) -> list[str]:
    """What stands in ByG Loader after each of these files."""
    canvas, said = pack("host.canvas"), []
    instance = SimpleNamespace(send_progress_text=lambda text, node: said.append(text))
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
    real, context = sys.modules.get("server"), canvas.get_executing_context
    sys.modules["server"] = server
    canvas.get_executing_context = lambda: SimpleNamespace(node_id="1")
    try:
        for name in names:
            with suppress(ValueError):
                call("ByG_Loader", model=world()[0], lora_name=name)
    finally:
        canvas.get_executing_context = context
        sys.modules["server"] = real
        if real is None:
            del sys.modules["server"]
    return said
