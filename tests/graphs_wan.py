"""Graphs with a tiny random Wan, as no stock loader opens it (see graphs.py)."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from comfy_host import call
from graphs import SEED, pack, shown
from host_nodes import small
from torch import Tensor

WAN = dict(
    image_model="wan2.1", model_type="t2v", dim=128, in_dim=16, out_dim=16, num_heads=4,
    ffn_dim=256, num_layers=2, patch_size=(1, 2, 2), freq_dim=64, window_size=(-1, -1),
    qk_norm=True, cross_attn_norm=True, eps=1e-6, text_dim=48, text_len=512,
)  # fmt: skip


@cache
def wan(seed: int = 0, channels: int = 16) -> object:
    """MODEL of a tiny Wan 2.1 (16 channels) or 2.2 5B (48) with random weights."""
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    kind = {16: comfy.supported_models.WAN21_T2V, 48: comfy.supported_models.WAN22_T2V}[channels]
    config = kind({**WAN, "in_dim": channels, "out_dim": channels})
    config.set_inference_dtype(torch.float32, None)
    model, g = config.get_model({}, ""), torch.Generator().manual_seed(seed)
    for name, weight in model.diffusion_model.named_parameters():
        drawn = torch.randn(weight.shape, generator=g)
        if weight.ndim > 1:
            drawn = drawn * weight[0].numel() ** -0.5
        elif "norm" in name and name.endswith("weight"):
            drawn = torch.ones_like(drawn)
        else:
            drawn = 0.1 * drawn
        weight.data.copy_(drawn)
    cpu = torch.device("cpu")
    return ModelPatcher(model, load_device=cpu, offload_device=cpu)


@cache
def wan_vae() -> object:
    """A tiny Wan 2.1 VAE with random weights."""
    import comfy.ldm.wan.vae as module
    import comfy.sd

    network = module.WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    )  # fmt: skip
    g = torch.Generator().manual_seed(0)
    weights = {
        name: torch.ones_like(weight)
        if name.endswith("gamma")
        else torch.randn(weight.shape, generator=g) * max(1, weight[0].numel()) ** -0.5
        for name, weight in network.state_dict().items()
    }
    with small(module, dim=8):  # ComfyUI 0.3.64 does not look at the weights' sizes
        return comfy.sd.VAE(sd=weights)


def opened(texts: list) -> list:
    """CONDITIONING of ByG Video Edit as a stock model can read it; see nodes/host/sealed.py."""
    opened = pack("host.sealed").opened
    return [[t, {**v, "time_dim_concat": opened(v["time_dim_concat"])}] for t, v in texts]


def words(seed: int = 0) -> list:
    """CONDITIONING of a random text for the tiny Wan."""
    g = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, 7, 48, generator=g), {}]]


def wan_velocity(
    lora: str, x: Tensor, source: Tensor | None, t: float = 0.6, mode: str = "auto"
) -> Tensor:
    """v of a tiny Wan behind ByG Loader, as samplers see it; latents are normalised."""
    model = call("ByG_Loader", model=wan(), lora_name=lora, source_positions=mode)[0]
    return _call_network(model, x, source, t)


def _call_network(
    model: object, x: Tensor, source: Tensor | None, t: float, text: Tensor | None = None
) -> Tensor:
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    options = {"wrappers": model.wrappers}
    more = {} if source is None else {"time_dim_concat": source}
    context = words()[0][0].expand(len(x), -1, -1) if text is None else text
    time = torch.full((len(x),), t)
    denoised = model.model.apply_model(
        x, time, c_crossattn=context, transformer_options=options, **more
    )
    return (x - denoised) / t


def wan_pair(
    shape: dict, files: list[str], lora: str, x: Tensor, source: Tensor, text: Tensor, times: list
) -> list[list[Tensor]]:
    """v of two experts behind one ByG Loader, with and without a source, at times of each.

    Of one file: of the 5B's network.
    """
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher
    from safetensors.torch import load_file

    models, cpu = [], torch.device("cpu")
    known = comfy.supported_models
    kind = known.WAN21_T2V if len(files) > 1 else known.WAN22_T2V
    for file in files:
        config = kind(dict(shape))
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "")
        model.diffusion_model.load_state_dict(load_file(file))
        models.append(ModelPatcher(model, load_device=cpu, offload_device=cpu))
    slots = dict(zip(("model", "model_low"), models, strict=False))
    pair = call("ByG_Loader", lora_name=lora, **slots)[: len(models)]
    return [
        [_call_network(model, x, z, t, text) for z in (source, None)]
        for model, t in zip(pair, times, strict=True)
    ]


def wan_by_hand(lora: str, x: Tensor, source: Tensor, t: float = 0.6) -> Tensor:
    """The same from the network's own parts: both at the positions of the target, then cut off."""
    import comfy.model_management
    from comfy.ldm.common_dit import pad_to_patch_size

    model = call("LoraLoaderModelOnly", model=wan(), lora_name=lora)[0]
    comfy.model_management.load_models_gpu([model])
    net, (height, width) = model.model.diffusion_model, x.shape[-2:]
    whole = [pad_to_patch_size(z, net.patch_size) for z in (x, source)]
    ropes = [net.rope_encode(z.shape[2], height, width, dtype=x.dtype) for z in (x, source)]
    time = torch.full((len(x),), t * 1000)
    context = words()[0][0].expand(len(x), -1, -1)
    v = net.forward_orig(torch.cat(whole, 2), time, context, freqs=torch.cat(ropes, 1))
    return v[:, :, : x.shape[2], :height, :width]


def wan_plain(x: Tensor, t: float = 0.6, after: str | None = None) -> Tensor:
    """v of the bare tiny Wan, after a ByG Loader has used it if `after` names a LoRA."""
    if after is not None:
        wan_velocity(after, x, x)
    return _call_network(wan(), x, None, t)


def wan_leaves_no_trace(lora: str) -> tuple[bool, bool]:
    """Whether the network keeps anything of ours, after a run and after a failed one."""
    network, x = wan().model.diffusion_model, torch.zeros(1, 16, 2, 4, 4)
    wan_velocity(lora, x, x)
    after_run = "rope_encode" in vars(network)
    try:
        wan_velocity(lora, x, x[:, :3])  # too few channels: fails inside
    except RuntimeError:
        return after_run, "rope_encode" in vars(network)
    raise AssertionError("that should have failed")


def video_edit(frames: Tensor, **widgets: object) -> dict:
    """What ByG Video Edit gives: conditionings, latent, frames, fit, fps, audio."""
    names = ("positive", "negative", "latent", "frames", "fit", "fps", "audio")
    widgets = {"vae": wan_vae(), "size_mode": "same area", "width": 32, "height": 32, **widgets}
    source = {} if frames is None else {"frames": frames}
    found = call("ByG_VideoEdit", positive=words(), **source, **widgets)
    return dict(zip(names, found, strict=True))


def video_shapes(frames: Tensor, **widgets: object) -> dict:
    """Sizes and lengths of that, and what ByG Finish makes of the frames as they went in."""
    found = video_edit(frames, **widgets)
    finished, video = call("ByG_Finish", images=found["frames"], fit=found["fit"])
    parts, mask = video.get_components(), found["latent"].get("noise_mask")
    own = call("ByG_Finish", images=found["frames"], fit=found["fit"], match_length=False)
    audio = found["audio"]
    return {
        "latent": tuple(found["latent"]["samples"].shape),
        "mask": None if mask is None else mask,
        "frames": found["frames"],
        "fps": found["fps"],
        "audio": None if audio is None else audio["waveform"].shape[-1],
        "finished": finished,
        "rate": float(parts.frame_rate),
        "model_rate": float(own[1].get_components().frame_rate),
        "model_length": len(own[0]),
        "same_source": all(
            torch.equal(opened(texts)[0][1]["time_dim_concat"], found["latent"]["samples"])
            for texts in (found["positive"], found["negative"])
        ),
    }


def video_shapes_at(frames: Tensor, fps: float) -> dict:
    """Of frames at another rate than the model's 16."""
    return video_shapes(frames, source_fps=fps)


def video_shapes_with_mask(frames: Tensor, mask: Tensor) -> dict:
    """With a mask."""
    return video_shapes(frames, mask=mask)


def video_saved(frames: Tensor) -> dict[str, Tensor]:
    """What ByG Finish gives of a clip, and its video from a file."""
    import tempfile

    from comfy_api.v0_0_2 import InputImpl

    found = video_edit(frames)
    finished, video = call("ByG_Finish", images=found["frames"], fit=found["fit"])
    with tempfile.TemporaryDirectory() as folder:
        video.save_to(f"{folder}/clip.mp4")
        read = InputImpl.VideoFromFile(f"{folder}/clip.mp4").get_components().images
    return {"finished": finished, "read": read}


def video_notes(frames: Tensor) -> str:
    """What ByG Video Edit says in the node."""
    size = {"size_mode": "same area", "width": 32, "height": 32}
    return shown("ByG_VideoEdit", positive=words(), vae=wan_vae(), frames=frames, **size)


def video_from_components(frames: Tensor, fps: int, samples: int) -> dict:
    """Of a VIDEO with sound, edited from its third frame on."""
    from fractions import Fraction

    from comfy_api.v0_0_2 import InputImpl, Types

    audio = {"waveform": torch.arange(samples).float()[None, None], "sample_rate": 800}
    parts = Types.VideoComponents(images=frames, audio=audio, frame_rate=Fraction(fps))
    video = InputImpl.VideoFromComponents(parts)
    found = video_shapes(None, video=video, start_frame=2, length=4, fps=float(fps))
    first = video_edit(None, video=video, start_frame=2, length=4, fps=float(fps))["audio"]
    return {**found, "first_sample": float(first["waveform"][0, 0, 0])}


def video_sound(frames: Tensor, fps: int, samples: int) -> int | None:
    """How many samples of sound the part from the third frame on has."""
    audio = {"waveform": torch.arange(samples).float()[None, None], "sample_rate": 800}
    found = video_edit(frames, audio=audio, start_frame=2, length=4, fps=float(fps))["audio"]
    return found and found["waveform"].shape[-1]


def video_refused_with(frames: Tensor | None, widgets: dict) -> None:
    """For complaints."""
    video_edit(frames, **widgets)


def five_b(frames: Tensor, mask: Tensor) -> None:
    """A mask beside the VAE of Wan 2.2 5B."""
    from types import SimpleNamespace

    vae = SimpleNamespace(first_stage_model=object(), latent_dim=3, latent_channels=48)
    video_edit(frames, mask=mask, vae=vae)


def five_b_masked(lora: str, x: Tensor) -> None:
    """A noise mask that reached Wan 2.2 5B all the same."""
    model = call("ByG_Loader", model=wan(0, 48), lora_name=lora)[0]
    options, context = {"wrappers": model.wrappers}, words()[0][0]
    mask = torch.ones(1, 1, x.shape[2], *x.shape[3:])
    model.model.apply_model(
        x, torch.tensor([0.5]), c_crossattn=context, transformer_options=options,
        time_dim_concat=x, denoise_mask=mask,
    )  # fmt: skip


def _wan_sampled(model: object, steps: dict, texts: tuple, latent: dict, **more: object) -> dict:
    common = {
        "model": model, "noise_seed": SEED, "steps": 4, "cfg": 2.0, "sampler_name": "euler",
        "scheduler": "simple", "positive": texts[0], "negative": texts[1], "latent_image": latent,
    }  # fmt: skip
    return call("KSamplerAdvanced", **common, **steps, **more)[0]


def two_stages(lora: str, frames: Tensor, mask: Tensor | None, ours: bool) -> tuple:
    """One sampler, and two with the same weights; behind our Loader or the stock one."""
    if ours:
        model = call("ByG_Loader", model=wan(), lora_name=lora, schedule="as the model is")[0]
    else:
        model = call("LoraLoaderModelOnly", model=wan(), lora_name=lora)[0]
    model = call("ModelSamplingSD3", model=model, shift=5.0)[0]
    found = video_edit(frames, **({} if mask is None else {"mask": mask}))
    texts, latent = (found["positive"], found["negative"]), found["latent"]
    texts = texts if ours else tuple(map(opened, texts))
    whole = {"add_noise": "enable", "return_with_leftover_noise": "disable"}
    one = _wan_sampled(model, {"start_at_step": 0, "end_at_step": 100}, texts, latent, **whole)
    first = {"add_noise": "enable", "return_with_leftover_noise": "enable"}
    noisy = _wan_sampled(model, {"start_at_step": 0, "end_at_step": 2}, texts, latent, **first)
    second = {"add_noise": "disable", "return_with_leftover_noise": "disable"}
    two = _wan_sampled(model, {"start_at_step": 2, "end_at_step": 100}, texts, noisy, **second)
    return one["samples"], two["samples"], latent["samples"]


def with_memory(lora: str, frames: Tensor, limit: int) -> Tensor:
    """The latent of an edit on a device that has `limit` bytes."""
    import comfy.model_management as management

    model, found = call("ByG_Loader", model=wan(), lora_name=lora)[0], video_edit(frames)
    texts, whole = (found["positive"], found["negative"]), {"start_at_step": 0, "end_at_step": 9}
    real, management.get_total_memory = management.get_total_memory, lambda device: limit
    try:
        return _wan_sampled(model, whole, texts, found["latent"])["samples"]
    finally:
        management.get_total_memory = real


def estimated_shapes(lora: str, frames: Tensor, windows: bool) -> tuple[float, float]:
    """Latent pixels for which memory is asked, without and with a source."""
    from comfy.patcher_extension import WrappersMP

    seen = []

    def last(executor, model, shape, *rest, **more):  # noqa: ANN001, ANN002, ANN003, ANN202
        seen.append(float(np.prod(list(shape)[2:])))
        return executor(model, shape, *rest, **more)

    found = video_edit(frames)
    ours = call("ByG_Loader", model=wan(), lora_name=lora)[0]
    for model in (wan(), ours):
        if windows:
            model = call("WanContextWindowsManual", model=model, context_length=5)[0]
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "zz", last)
        texts = (opened(found["positive"]), opened(found["negative"]))
        steps = {"start_at_step": 3, "end_at_step": 4}
        _wan_sampled(model, steps, texts, found["latent"], add_noise="enable",
                     return_with_leftover_noise="disable")  # fmt: skip
    return seen[0], seen[1]


def windowed(
    lora: str, x: Tensor, source: Tensor, options: dict[str, bool]
) -> tuple[Tensor, Tensor]:
    """One prediction through context windows of two latent frames, and each window alone.

    With `causal_window_fix` the frame before a window goes along; without, none does.
    """
    import comfy.samplers

    model = call("ByG_Loader", model=wan(), lora_name=lora)[0]
    plain = model.model.process_latent_out(source)
    text = [[words()[0][0], {"time_dim_concat": plain}]]
    cut = call(
        "ContextWindowsManual", model=model, context_length=2, context_overlap=0,
        context_schedule="standard_static", fuse_method="flat", dim=2, **options,
    )[0]  # fmt: skip
    seen = []

    def once(network, noise, sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202
        seen.append(network(x, sigmas[:1], **extra_args))
        return noise

    guider, nothing = call("BasicGuider", model=cut, conditioning=text)[0], torch.zeros_like(x)
    guider.sample(nothing, nothing, comfy.samplers.KSAMPLER(once), torch.tensor([0.6, 0.0]))
    alone = []
    for i in range(0, x.shape[2], 2):
        frames = slice(i - bool(i and options.get("causal_window_fix")), i + 2)
        y_t = x[:, :, frames]
        y_hat = y_t - 0.6 * wan_velocity(lora, y_t, source[:, :, frames], 0.6)
        alone.append(y_hat[:, :, -2:])
    return seen[0], torch.cat(alone, 2)


def in_windows(lora: str, frames: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    """An edit without context windows, and with windows of so many frames."""
    model, found = call("ByG_Loader", model=wan(), lora_name=lora)[0], video_edit(frames)
    cut = [
        call("WanContextWindowsManual", model=model, context_length=n, context_overlap=2)[0]
        for n in lengths
    ]
    texts, steps = (found["positive"], found["negative"]), {"start_at_step": 0, "end_at_step": 9}
    return [_wan_sampled(m, steps, texts, found["latent"])["samples"] for m in (model, *cut)]


def split(shift: float, model_shift: float | None = None, **widgets: float) -> tuple:
    """High sigmas, low sigmas and the step between them."""
    model = wan()
    if model_shift is not None:
        model = call("ModelSamplingSD3", model=model, shift=model_shift)[0]
    return call("ByG_ExpertSplit", model=model, shift=shift, **widgets)
