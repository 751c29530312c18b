"""Graphs around ByG Debug (see graphs.py)."""

from __future__ import annotations

import torch
from comfy_host import call
from graphs import SEED, SMALL, encoded, image_edit, pack, world
from graphs_wan import video_edit, wan, wan_vae
from torch import Tensor


def readings(name: str, *arguments: Tensor) -> object:
    """A function of nodes/readings.py."""
    return getattr(pack("readings"), name)(*arguments)


def _debug_inputs(
    lora: str | None, image: Tensor, sampler: str, cfg: float, edit: dict, model: object = None
) -> dict:
    model = world()[0] if model is None else model
    if lora is not None:
        model = call("ByG_Loader", model=model, lora_name=lora)[0]
    found = image_edit(image, {**SMALL, **edit})
    guider = call(
        "CFGGuider", model=model, positive=found["positive"], negative=found["negative"], cfg=cfg
    )[0]
    return {
        "noise": call("RandomNoise", noise_seed=SEED)[0],
        "guider": guider,
        "sampler": call("KSamplerSelect", sampler_name=sampler)[0],
        "sigmas": call("BasicScheduler", model=model, scheduler="simple", steps=6, denoise=1.0)[0],
        "latent_image": found["latent"],
    }


def debug_and_stock(
    lora: str, image: Tensor, sampler: str, cfg: float, edit: dict
) -> tuple[list[Tensor], list[Tensor]]:
    """Both latents of ByG Debug, and of SamplerCustomAdvanced."""
    inputs = _debug_inputs(lora, image, sampler, cfg, edit)
    stock = call("SamplerCustomAdvanced", **inputs)
    ours = call("ByG_Debug", **inputs, vae=world()[2], cell_size=64)
    return [x["samples"] for x in ours[:2]], [x["samples"] for x in stock[:2]]


def debug(
    lora: str | None, image: Tensor, widgets: dict, base: bool = False, steps: dict | None = None
) -> dict:
    """Everything that ByG Debug gives; `base`: with the model without LoRA and two captions."""
    inputs = _debug_inputs(lora, image, "euler", 1.0, {})
    if steps is not None:
        model = inputs["guider"].model_patcher
        inputs["sigmas"] = call("BasicScheduler", model=model, scheduler="simple", **steps)[0]
    if base:
        inputs["base_model"] = world()[0]
        inputs["src_caption"] = encoded("a 3d render of an apple on a blue ground")
        inputs["tgt_caption"] = encoded("a 3d render of an apple on a red striped ground")
    found = call("ByG_Debug", **inputs, vae=world()[2], **{"cell_size": 64, **widgets})
    names = ("output", "denoised", "grid", "one_step", "report")
    return {**dict(zip(names, found, strict=True)), "sigmas": inputs["sigmas"]}


def cancelled(lora: str, image: Tensor, node: str) -> int:
    """How often the model runs when the artist cancels during its second evaluation."""
    import comfy.model_management as management

    inputs, calls = _debug_inputs(lora, image, "euler", 1.0, {}), []
    inputs["guider"].model_patcher.add_wrapper_with_key("apply_model", "cancel", _Cancel(calls))
    extra = {"vae": world()[2]} if node == "ByG_Debug" else {}
    try:
        call(node, **inputs, **extra)
    except management.InterruptProcessingException:
        return len(calls)
    raise AssertionError("the interrupt was swallowed")


class _Cancel:
    def __init__(self, calls: list) -> None:
        self.calls = calls

    def __call__(self, executor, *rest, **more):  # noqa: ANN001, ANN002, ANN003, ANN204
        import comfy.model_management as management

        self.calls.append(1)
        if len(self.calls) == 2:
            management.interrupt_current_processing(True)
        management.throw_exception_if_processing_interrupted()  # as the progress bar's hook does
        return executor(*rest, **more)


def kept_alive(lora: str, image: Tensor) -> bool:
    """Whether a model outlives its graph and the host's unload-all."""
    import gc
    import weakref

    import comfy.model_management as management

    inputs = _debug_inputs(lora, image, "euler", 1.0, {}, call("ByG_TinyWorld")[0])
    network = weakref.ref(inputs["guider"].model_patcher.model)
    result = call("ByG_Debug", **inputs, vae=world()[2], cell_size=64)
    assert network() is not None and len(result) == 5
    inputs.clear()
    management.unload_all_models()
    management.cleanup_models_gc()
    gc.collect()
    return network() is not None


def debug_by_hand(lora: str, image: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """The one-step picture at one Euler step, from ByG Debug and from a stock sampler cut there."""
    inputs = _debug_inputs(lora, image, "euler", 1.0, {})
    sigmas, vae = inputs["sigmas"], world()[2]
    ours = call("ByG_Debug", **inputs, vae=vae, at=f"{float(sigmas[level]):.6f}", cell_size=64)[3]
    # A step from here to 0 lands on y_t - t v: the one-step prediction.
    cut = torch.cat([sigmas[: level + 1], torch.zeros(1)])
    stock = call("SamplerCustomAdvanced", **{**inputs, "sigmas": cut})[0]
    return ours, call("VAEDecode", vae=vae, samples=stock)[0]


def debug_along_the_captions(image: Tensor) -> str:
    """The report on a model that is the base itself, told the target's caption: cosine 1."""
    inputs = _debug_inputs(None, image, "euler", 1.0, {})
    target = encoded("a 3d render of an apple on a red striped ground")
    inputs["guider"] = call("BasicGuider", model=world()[0], conditioning=target)[0]
    captions = {"src_caption": encoded("an ink drawing of a shoe"), "tgt_caption": target}
    return call(
        "ByG_Debug", **inputs, vae=world()[2], source=image, base_model=world()[0], **captions
    )[4]


def refused_debug(lora: str, image: Tensor, widgets: dict, extra: str = "") -> None:
    """For complaints; `extra` names an input that lacks its partner."""
    inputs = _debug_inputs(lora, image, "euler", 1.0, {})
    partners = {
        "guider_low": inputs["guider"], "low_sigmas": inputs["sigmas"],
        "src_caption": encoded("a"), "both": None,
    }  # fmt: skip
    if extra == "both":
        widgets = {**widgets, "src_caption": encoded("a"), "tgt_caption": encoded("b")}
    elif extra == "bare":
        positive = encoded("no source at all")
        inputs["guider"] = call("BasicGuider", model=world()[0], conditioning=positive)[0]
    elif extra:
        widgets = {**widgets, extra: partners[extra]}
    call("ByG_Debug", **inputs, vae=world()[2], **widgets)


def debug_two_experts(lora: str, frames: Tensor, widgets: dict) -> dict:
    """ByG Debug over two tiny Wans, and the stock chain of two samplers."""
    found = video_edit(frames)
    models = [call("ByG_Loader", model=wan(seed), lora_name=lora)[0] for seed in (0, 1)]
    high, low, step = call("ByG_ExpertSplit", model=models[0], steps=5, boundary=0.8)
    texts = {"positive": found["positive"], "negative": found["negative"], "cfg": 2.0}
    guiders = [call("CFGGuider", model=model, **texts)[0] for model in models]
    first = {
        "noise": call("RandomNoise", noise_seed=SEED)[0],
        "guider": guiders[0],
        "sampler": call("KSamplerSelect", sampler_name="res_multistep")[0],
        "sigmas": high,
        "latent_image": found["latent"],
    }
    noisy = call("SamplerCustomAdvanced", **first)[0]
    nothing = call("DisableNoise")[0]
    second = {**first, "noise": nothing, "guider": guiders[1], "sigmas": low}
    stock = call("SamplerCustomAdvanced", **{**second, "latent_image": noisy})[0]
    ours = call(
        "ByG_Debug", **first, vae=wan_vae(), guider_low=guiders[1], low_sigmas=low,
        base_model=wan(0), base_model_low=wan(1), cell_size=64, **widgets,
    )  # fmt: skip
    return {
        "ours": ours[0]["samples"], "stock": stock["samples"], "grid": ours[2],
        "one_step": ours[3], "report": ours[4], "step": step,
        "source": call("VAEDecode", vae=wan_vae(), samples=found["latent"])[0],
    }  # fmt: skip


def one_frame(frames: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """A frame decoded alone, and with all others."""
    latent = video_edit(frames)["latent"]["samples"]
    alone = pack("host.sampling").decode_one(wan_vae(), latent, 0, at)
    return alone, call("VAEDecode", vae=wan_vae(), samples={"samples": latent})[0][at]
