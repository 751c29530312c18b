"""Graphs that would give noise without a word: every one of them raises (see graphs.py)."""

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
    common = {
        "noise_seed": SEED, "steps": steps, "cfg": cfg, "sampler_name": sampler,
        "scheduler": "simple", "positive": found["positive"], "negative": found["negative"],
    }  # fmt: skip
    (noisy,) = call(
        "KSamplerAdvanced", model=models[0], latent_image=found["latent"], start_at_step=0,
        end_at_step=split, **ADD, **common,
    )  # fmt: skip
    (clean,) = call(
        "KSamplerAdvanced", model=models[1], latent_image=noisy, start_at_step=split,
        end_at_step=10000, **GO_ON, **common,
    )  # fmt: skip
    return clean["samples"]


def right(lora: str, frames: Tensor) -> Tensor:
    """The graph as it should be."""
    *models, info = pair(lora)
    return sampled(models, video_edit(frames, info=info, size_mode="as trained"))


# ---------------------------------------------------------------- models without our positions


def _stock_loader(lora: str, models: tuple) -> tuple:
    load = "LoraLoaderModelOnly"
    return tuple(call(load, model=wan(i), lora_name=lora)[0] for i in (0, 1))


def _stock_low_loader(lora: str, models: tuple) -> tuple:
    return models[0], call("LoraLoaderModelOnly", model=wan(1), lora_name=lora)[0]


def _merged(lora: str, models: tuple) -> tuple:
    merge = {"model1": wan(0), "model2": models[0], "ratio": 0.0}
    return call("ModelMergeSimple", **merge)[0], models[1]


def _low_past_the_loader(lora: str, models: tuple) -> tuple:
    return models[0], wan(1)


def _high_past_the_loader(lora: str, models: tuple) -> tuple:
    return wan(0), models[1]


def _saved(lora: str, models: tuple) -> tuple:
    """What Save and Load of a diffusion model leave: the LoRA inside of the weights."""
    reloaded = []
    for model in models:
        weights = {k: v.clone() for k, v in model.model.state_dict().items()}
        copy = wan(2).clone()
        copy.model.load_state_dict(weights, strict=False)
        reloaded.append(copy)
    return tuple(reloaded)


def _swapped(lora: str, models: tuple) -> tuple:
    return models[1], models[0]


def _same_twice(lora: str, models: tuple) -> tuple:
    return models[0], models[0]


WIRED = {
    "stock loader": _stock_loader,
    "stock loader for one": _stock_low_loader,
    "merged": _merged,
    "model_low past the loader": _low_past_the_loader,
    "model past the loader": _high_past_the_loader,
    "saved and loaded": _saved,
    "swapped": _swapped,
    "one for both": _same_twice,
}


def wired(kind: str, lora: str, frames: Tensor) -> Tensor:
    """The graph with its models wired in another way."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    split = call("ByG_ExpertSplit", model=models[0], steps=4)[2]
    return sampled(WIRED[kind](lora, models), found, split=split)


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


def index_pair(lora: str, frames: Tensor) -> Tensor:
    """A LoRA trained at stock Wan's own positions works behind the stock loader."""
    *_, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    return sampled(_stock_loader(lora, ()), found)


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


# ---------------------------------------------------------------- latents


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
    common = {
        "noise_seed": SEED, "steps": 4, "cfg": 1.0, "sampler_name": "euler",
        "scheduler": "simple", "positive": found["positive"], "negative": found["negative"],
    }  # fmt: skip
    (noisy,) = call(
        "KSamplerAdvanced", model=models[0], latent_image=found["latent"], start_at_step=0,
        end_at_step=split, **ADD, **common,
    )  # fmt: skip
    larger = torch.nn.functional.interpolate(noisy["samples"], scale_factor=(1, 2, 2))
    return call(
        "KSamplerAdvanced", model=models[1], latent_image={"samples": larger},
        start_at_step=split, end_at_step=10000, **GO_ON, **common,
    )[0]["samples"]  # fmt: skip


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
