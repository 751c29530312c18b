"""Graphs with a small Wan pair of files, as ByG Tiny World loads it (see graphs.py)."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import torch
from comfy_host import call
from graphs import SEED, pack
from graphs_wan import _call_network
from torch import Tensor


@cache
def parts(folder: str) -> tuple:
    """High MODEL, low MODEL, CLIP, VAE."""
    host = pack("host.tiny_wan")
    return (
        *host.load_models(Path(folder)),
        host.load_clip(Path(folder)),
        host.load_vae(Path(folder)),
    )


def texts(folder: str, texts: list[str]) -> Tensor:
    clip = parts(folder)[2]
    return torch.cat([call("CLIPTextEncode", clip=clip, text=text)[0][0][0] for text in texts])


def vae(folder: str, frames: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Frames encoded, a latent decoded."""
    found = parts(folder)[3]
    return (
        call("VAEEncode", vae=found, pixels=frames)[0]["samples"],
        call("VAEDecode", vae=found, samples={"samples": latent})[0],
    )


def normalised(folder: str, latent: Tensor) -> tuple[Tensor, Tensor]:
    """A latent as the network sees it, and back."""
    model = parts(folder)[0].model
    return model.process_latent_in(latent), model.process_latent_out(latent)


def velocities(
    folder: str, lora: str, x: Tensor, source: Tensor, text: Tensor, times: list[float]
) -> list[list[Tensor]]:
    """v of either expert behind ByG Loader, with a source and without, at times of each."""
    high, low = parts(folder)[:2]
    pair = call("ByG_Loader", model=high, model_low=low, lora_name=lora)[:2]
    return [
        [_call_network(model, x, z, t, text) for z in (source, None)]
        for model, t in zip(pair, times, strict=True)
    ]


def video_kind(folder: str) -> tuple[int, bool]:
    """Pixels per token side of its VAE, and whether it is taken for Wan 2.2 5B's."""
    found, host = parts(folder)[3], pack("host.sampling")
    return host.pixel_multiple(found), host.of_wan_5b(found)


def tiny_clip() -> tuple[list[str], Tensor]:
    """What ByG Tiny World gives of clips: the kinds of its models, the frames of its example."""
    high, _, _, frames, low = call("ByG_TinyWorld", media="clip", style="3d render")
    return [type(model.model).__name__ for model in (high, low)], frames


def tiny_clip_elsewhere(folder: str) -> None:
    """The same where the files are not."""
    known = pack("host.families").registry()
    whole = known["wan"]
    embedded = dataclasses.replace(whole.embedded, folder=Path(folder) / "base_wan")
    known["wan"] = dataclasses.replace(whole, embedded=embedded)
    try:
        tiny_clip()
    finally:
        known["wan"] = whole


def edited_clip(
    folder: str,
    lora: str,
    frames: Tensor,
    text: str,
    negative: str,
    boundary: float,
    fps: float,
    steps: int | None = None,
    **widgets: str,
) -> Tensor:
    """The graph of an artist, with two samplers; the frames at the end."""
    high, low, clip, vae = parts(folder)
    models = call("ByG_Loader", model=high, model_low=low, lora_name=lora, **widgets)
    info = models[2]
    words = (call("CLIPTextEncode", clip=clip, text=told)[0] for told in (text, negative))
    texts = dict(zip(("positive", "negative"), words, strict=True))
    *both, latent, _, fit, _, _ = call(
        "ByG_VideoEdit", **texts, vae=vae, frames=frames, info=info, source_fps=fps
    )
    steps = steps or info.sample_steps
    cfg = 1.0 if info.cfg is None else info.cfg
    cfg_low = cfg if info.cfg_low is None else info.cfg_low
    at = {"steps": steps, "boundary": boundary}
    step = call("ByG_ExpertSplit", model=models[0], **at)[2]
    common = {"noise_seed": SEED, "steps": steps, "sampler_name": "euler"}
    common |= {"scheduler": "simple", "positive": both[0], "negative": both[1]}
    (noisy,) = call(
        "KSamplerAdvanced", model=models[0], latent_image=latent, cfg=cfg, start_at_step=0,
        end_at_step=step, add_noise="enable", return_with_leftover_noise="enable", **common,
    )  # fmt: skip
    (clean,) = call(
        "KSamplerAdvanced", model=models[1], latent_image=noisy, cfg=cfg_low,
        start_at_step=step, end_at_step=10000, add_noise="disable",
        return_with_leftover_noise="disable", **common,
    )  # fmt: skip
    (decoded,) = call("VAEDecode", vae=vae, samples=clean)
    return call("ByG_Finish", images=decoded, fit=fit)[0]
