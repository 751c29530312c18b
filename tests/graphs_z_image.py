"""Graphs with a tiny Z-Image inside ComfyUI (see graphs.py)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from comfy_host import call
from host_nodes import pack
from torch import Tensor


@cache
def parts(folder: str) -> tuple:
    """MODEL, CLIP and VAE of a small pipeline in diffusers' layout."""
    return pack("host.families").host_named("z_image").open_embedded(Path(folder))[:3]


def velocity(
    folder: str, x_t: Tensor, words: Tensor, t: Tensor, source: Tensor | None = None
) -> Tensor:
    """v (B, C, 1, h, w) as samplers see it, of stock nodes alone; latents are normalised."""
    conditioning, model = [[words, {}]], parts(folder)[0]
    if source is not None:
        plain = {"samples": model.model.process_latent_out(source[:, :, 0])}
        conditioning = call("ReferenceLatent", conditioning=conditioning, latent=plain)[0]
    return asked(model, conditioning, x_t, t)


def asked(model: object, conditioning: list, x_t: Tensor, t: Tensor) -> Tensor:
    """v of a MODEL under a guider."""
    import comfy.samplers

    guider, seen = call("BasicGuider", model=model, conditioning=conditioning)[0], []
    x = x_t[:, :, 0]

    def once(network, noise, sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202
        seen.append(network(x, t, **extra_args))
        return noise

    sampler, nothing = comfy.samplers.KSAMPLER(once), torch.zeros_like(x)
    guider.sample(nothing, nothing, sampler, torch.tensor([1.0, 0.0]))
    return ((x - seen[0]) / t[:, None, None, None])[:, :, None]


# ---------------------------------------------------------------- ByG's nodes, and stock ones

CFG, SEED = 2.0, 7
HOW = {"seed": SEED, "cfg": CFG, "sampler_name": "euler", "scheduler": "simple"}


def texts(folder: str, texts: list[str]) -> list[Tensor]:
    """What CLIPTextEncode gives, (L_i, D)."""
    clip = parts(folder)[1]
    return [call("CLIPTextEncode", clip=clip, text=text)[0][0][0][0] for text in texts]


def vae(folder: str, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    found = parts(folder)[2]
    return (
        call("VAEEncode", vae=found, pixels=image)[0]["samples"],
        call("VAEDecode", vae=found, samples={"samples": latent})[0],
    )


def loaded(folder: str, lora: str, **widgets: object) -> tuple:
    """What ByG Loader gives."""
    return call("ByG_Loader", model=parts(folder)[0], lora_name=lora, **widgets)


def velocity_of(folder: str, lora: str, inputs: dict[str, Tensor]) -> Tensor:
    """v behind ByG Loader."""
    model = loaded(folder, lora)[0]
    plain = {"samples": model.model.process_latent_out(inputs["source"][:, :, 0])}
    words = call("ReferenceLatent", conditioning=[[inputs["words"], {}]], latent=plain)[0]
    return asked(model, words, inputs["x_t"], inputs["t"])


def prepared(folder: str, info: object, image: Tensor, text: str, **widgets: object) -> tuple:
    """ByG Image Edit with an empty negative."""
    words, nothing = (call("CLIPTextEncode", clip=parts(folder)[1], text=t)[0] for t in (text, ""))
    given = {"positive": words, "negative": nothing, "vae": parts(folder)[2], "image": image}
    return call("ByG_ImageEdit", **given, info=info, **widgets)


def edit(
    folder: str, lora: str, image: Tensor, text: str, cfg: float = CFG, **widgets: object
) -> dict:
    """The graph of an artist: latent, source and finished picture."""
    model, _, info, _ = loaded(folder, lora)
    positive, negative, source, _, fit = prepared(folder, info, image, text, **widgets)
    (latent,) = call(
        "KSampler", model=model, steps=info.sample_steps, positive=positive, negative=negative,
        latent_image=source, **{**HOW, "cfg": cfg},
    )  # fmt: skip
    (decoded,) = call("VAEDecode", vae=parts(folder)[2], samples=latent)
    finished = call("ByG_Finish", images=decoded, fit=fit)[0]
    return {"latent": latent["samples"], "source": source["samples"], "image": finished}


def stock(
    folder: str, lora: str, image: Tensor, text: str, steps: int, shift: float, cfg: float = CFG
) -> Tensor:
    """The latent of stock nodes: Load LoRA, ModelSamplingAuraFlow, ReferenceLatent, KSampler."""
    model, clip, vae = parts(folder)
    (model,) = call("LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=1.0)
    (model,) = call("ModelSamplingAuraFlow", model=model, shift=shift)
    (latent,) = call("VAEEncode", vae=vae, pixels=image)
    sides = {}
    for name, words in (("positive", text), ("negative", "")):
        (encoded,) = call("CLIPTextEncode", clip=clip, text=words)
        (sides[name],) = call("ReferenceLatent", conditioning=encoded, latent=latent)
    how = {**HOW, **sides, "cfg": cfg}
    return call("KSampler", model=model, steps=steps, latent_image=latent, **how)[0]["samples"]


def tiny_world(media: str) -> tuple[str, Tensor]:
    """The kind of model that ByG Tiny World opens, and its example."""
    model, _, _, image, _ = call("ByG_TinyWorld", media=media, style="3d render", subject="fox")
    return type(model.model).__name__, image


def behind(folder: str, lora: str, image: Tensor, node: str, shift: float) -> Tensor:
    """The latent with a ModelSampling node behind ByG Loader."""
    model, _, info, _ = loaded(folder, lora)
    (model,) = call(node, model=model, shift=shift)
    positive, negative, source, *_ = prepared(folder, info, image, "paint the thing red")
    return call(
        "KSampler", model=model, steps=2, positive=positive, negative=negative,
        latent_image=source, **HOW,
    )[0]["samples"]  # fmt: skip


def debugged(folder: str, lora: str, image: Tensor, text: str) -> dict:
    """ByG Debug beside SamplerCustomAdvanced, with the base and two captions."""
    model, _, info, _ = loaded(folder, lora)
    positive, negative, source, *_ = prepared(folder, info, image, text)
    guider = call("CFGGuider", model=model, positive=positive, negative=negative, cfg=CFG)[0]
    inputs = {
        "noise": call("RandomNoise", noise_seed=SEED)[0],
        "guider": guider,
        "sampler": call("KSamplerSelect", sampler_name="euler")[0],
        "sigmas": call("BasicScheduler", model=model, scheduler="simple", steps=4, denoise=1.0)[0],
        "latent_image": source,
    }
    wanted = call("SamplerCustomAdvanced", **inputs)[0]["samples"]
    base, clip, vae = parts(folder)
    captions = (call("CLIPTextEncode", clip=clip, text=t)[0] for t in ("a red thing", "a thing"))
    probes = dict(zip(("src_caption", "tgt_caption"), captions, strict=True), base_model=base)
    found = call("ByG_Debug", **inputs, vae=vae, cell_size=64, **probes)
    return {"wanted": wanted, "output": found[0]["samples"], "grid": found[2], "report": found[4]}


def loaded_on(folder: str, lora: str, kind: str, positions: str = "auto") -> str:
    """The report of ByG Loader on a relative, or in a ComfyUI that is too old."""
    import copy

    from comfy.ldm.lumina.model import NextDiT

    model = parts(folder)[0].clone()
    model.model, config = copy.copy(model.model), model.model.model_config
    other = object.__new__(type(config))
    changes = {"lumina": {"z_image_modulation": False}, "omni": {"siglip_feat_dim": 8}}
    shape = {**config.unet_config, **changes.get(kind, {})}
    vars(other).update(vars(config), unet_config=shape)
    model.model.model_config = other
    forward = NextDiT._forward
    if kind == "old":
        NextDiT._forward = lambda self, x, timesteps, context: None
    try:
        return call("ByG_Loader", model=model, lora_name=lora, source_positions=positions)[3]
    finally:
        NextDiT._forward = forward


def estimated(folder: str, lora: str, image: Tensor) -> tuple[float, float]:
    """Bytes that ComfyUI frees for a sampling without and with a source."""
    model = loaded(folder, lora)[0]
    positive, _, source, *_ = prepared(folder, None, image, "paint", size_mode="megapixels")
    shape = list(source["samples"].shape)
    sizes = model.model.extra_conds_shapes(**positive[0][1])
    both = model.model.memory_required(shape, cond_shapes={k: [v] for k, v in sizes.items()})
    return model.model.memory_required(shape), both


def note(folder: str, info: object, image: Tensor, text: str) -> str:
    """What ByG Image Edit says under itself."""
    from graphs import shown

    words = call("CLIPTextEncode", clip=parts(folder)[1], text=text)[0]
    given = {"positive": words, "vae": parts(folder)[2], "image": image, "info": info}
    return shown("ByG_ImageEdit", **given)
