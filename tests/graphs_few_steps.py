"""Graphs around ByG Few Steps (see graphs.py)."""

from __future__ import annotations

from comfy_host import call
from graphs import INSTRUCTION, SEED, pack, shown, world
from graphs_tiny_wan import parts
from torch import Tensor

from byg_train.models.lora_file import LoraInfo

PARTS = ("noise", "sampler", "sigmas")


def _picture_parts(lora: str, image: Tensor, steps: int) -> dict:
    """What SamplerCustomAdvanced gets, and what ByG Finish does beside it."""
    model, _, info, _ = call("ByG_Loader", model=world()[0], lora_name=lora)
    text = call("CLIPTextEncode", clip=world()[1], text=INSTRUCTION)[0]
    positive, _, latent, _, fit = call(
        "ByG_ImageEdit", positive=text, vae=world()[2], image=image, info=info
    )
    found = call("ByG_FewSteps", info=info, latent_image=latent, noise_seed=SEED, steps=steps)
    guider = call("BasicGuider", model=model, conditioning=positive)[0]
    sampled = dict(zip(PARTS, found, strict=False), guider=guider, latent_image=latent)
    return {"sampled": sampled, "model": model, "fit": fit}


def edited_picture(
    lora: str, image: Tensor, steps: int = 0, sampler: str | None = None
) -> tuple[Tensor, Tensor]:
    """The graph of an artist: the sampler's latent, normalised, and the picture at the end.

    With a name another sampler of ComfyUI's is in the place of the node's.
    """
    found = _picture_parts(lora, image, steps)
    if sampler is not None:
        found["sampled"]["sampler"] = call("KSamplerSelect", sampler_name=sampler)[0]
    latent = call("SamplerCustomAdvanced", **found["sampled"])[0]
    decoded = call("VAEDecode", vae=world()[2], samples=latent)[0]
    picture = call("ByG_Finish", images=decoded, fit=found["fit"])[0]
    return found["model"].model.process_latent_in(latent["samples"]), picture


def edited_by_sampler_custom(lora: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """The latents of SamplerCustom, which draws the first noise itself, and of the other one."""
    sampled = _picture_parts(lora, image, 0)["sampled"]
    positive = sampled["guider"].original_conds["positive"]
    words = [[cond["cross_attn"], cond] for cond in positive]
    custom = call(
        "SamplerCustom", model=sampled["guider"].model_patcher, add_noise=True, noise_seed=SEED,
        cfg=1.0, positive=words, negative=words, sampler=sampled["sampler"],
        sigmas=sampled["sigmas"], latent_image=sampled["latent_image"],
    )[0]  # fmt: skip
    return custom["samples"], call("SamplerCustomAdvanced", **sampled)[0]["samples"]


def debugged(lora: str, image: Tensor, at: str) -> dict:
    """What ByG Debug shows of few steps, and the stock sampler's latent."""
    sampled = _picture_parts(lora, image, 0)["sampled"]
    stock = call("SamplerCustomAdvanced", **sampled)[0]["samples"]
    ours = call("ByG_Debug", **sampled, vae=world()[2], at=at, cell_size=64)
    result = call("VAEDecode", vae=world()[2], samples=ours[0])[0]
    return {
        "ours": ours[0]["samples"], "stock": stock, "grid": ours[2], "one_step": ours[3],
        "report": ours[4], "result": result,
    }  # fmt: skip


def schedule(info: LoraInfo, latent: Tensor, steps: int = 0) -> tuple[Tensor, Tensor]:
    """Both outputs of noise levels."""
    given = {"info": info, "latent_image": {"samples": latent}, "noise_seed": SEED}
    return call("ByG_FewSteps", **given, steps=steps)[2:]


def said(info: LoraInfo, latent: Tensor, steps: int = 0) -> str:
    """What stands on the node."""
    given = {"info": info, "latent_image": {"samples": latent}, "noise_seed": SEED}
    return shown("ByG_FewSteps", **given, steps=steps)


def _clip_parts(folder: str, lora: str, frames: Tensor, texts: tuple[str, str]) -> dict:
    """Of a pair: what its two samplers get."""
    high, low, clip, vae = parts(folder)
    *models, info, _ = call("ByG_Loader", model=high, model_low=low, lora_name=lora)
    words = [call("CLIPTextEncode", clip=clip, text=text)[0] for text in texts]
    positive, negative, latent, _, fit, *_ = call(
        "ByG_VideoEdit", positive=words[0], negative=words[1], vae=vae, frames=frames, info=info,
        source_fps=info.fps,
    )  # fmt: skip
    found = call("ByG_FewSteps", info=info, latent_image=latent, noise_seed=SEED)
    guiders = [
        call("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg)[0]
        for model, cfg in zip(models, (info.cfg, info.cfg_low), strict=True)
    ]
    first = dict(zip(PARTS, found, strict=False), guider=guiders[0], latent_image=latent)
    second = {"guider": guiders[1], "sampler": found[1], "sigmas": found[3]}
    return {"first": first, "second": second, "fit": fit, "vae": vae, "model": high}


def edited_clip(
    folder: str, lora: str, frames: Tensor, texts: tuple[str, str], sampler: str | None = None
) -> tuple[Tensor, Tensor]:
    """The graph of an artist with two samplers: the latent, normalised, and the frames.

    With a name another sampler of ComfyUI's is in the place of the node's.
    """
    found = _clip_parts(folder, lora, frames, texts)
    if sampler is not None:
        chosen = call("KSamplerSelect", sampler_name=sampler)[0]
        found["first"]["sampler"] = found["second"]["sampler"] = chosen
    noisy = call("SamplerCustomAdvanced", **found["first"])[0]
    second = {"noise": call("DisableNoise")[0], "latent_image": noisy, **found["second"]}
    latent = call("SamplerCustomAdvanced", **second)[0]
    decoded = call("VAEDecode", vae=found["vae"], samples=latent)[0]
    clip = call("ByG_Finish", images=decoded, fit=found["fit"])[0]
    return found["model"].model.process_latent_in(latent["samples"]), clip


def debugged_clip(folder: str, lora: str, frames: Tensor, texts: tuple[str, str]) -> dict:
    """What ByG Debug shows of a pair in few steps; its latent is normalised."""
    found = _clip_parts(folder, lora, frames, texts)
    low = {"guider_low": found["second"]["guider"], "low_sigmas": found["second"]["sigmas"]}
    ours = call("ByG_Debug", **found["first"], **low, vae=found["vae"], at="all", cell_size=64)
    latent = found["model"].model.process_latent_in(ours[0]["samples"])
    return {"latent": latent, "one_step": ours[3], "report": ours[4]}


def noise_after(seed: int, shape: tuple[int, ...], number: int) -> list[Tensor]:
    """What the sampler adds, by a model that knows the end: its states, without the end."""
    import torch

    grid = torch.linspace(1, 0, number + 2)
    sampler, states = pack("host.few_steps").renoise(grid, seed), []

    def model(y: Tensor, t: Tensor) -> Tensor:
        states.append(y / t[0])
        return torch.zeros_like(y)

    sampler.sampler_function(model, torch.zeros(shape), grid)
    return states[1:]
