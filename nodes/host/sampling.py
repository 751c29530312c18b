"""Sampling in ComfyUI: schedules, VAEs, and a record of every call of a model."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from torch import Tensor

from .families import KEY, family
from .guard import source_of
from .source import Conditioning, leave_out_source, place_source

SAMPLERS, SCHEDULERS = comfy.samplers.SAMPLER_NAMES, comfy.samplers.SCHEDULER_NAMES
# To decode one frame of a clip, so many latent frames before it go along: the VAE looks back, but
# hardly further than this.
BEFORE = 4


# ---------------------------------------------------------------- schedules


def set_shift(model: ModelPatcher, shift: float) -> bool:
    """Make a clone's schedulers push their times towards noise by `shift`; 1 = not at all.

    False if the model has no shift.
    """
    sampling = copy.deepcopy(model.get_model_object("model_sampling"))
    if isinstance(sampling, comfy.model_sampling.ModelSamplingFlux):
        sampling.set_parameters(shift=math.log(shift))
    elif isinstance(sampling, comfy.model_sampling.ModelSamplingDiscreteFlow):
        sampling.set_parameters(shift=shift, multiplier=sampling.multiplier)
    else:
        return False
    model.add_object_patch("model_sampling", sampling)
    return True


def sigmas(
    model: ModelPatcher, sampler: str, scheduler: str, steps: int, shift: float, denoise: float
) -> Tensor:
    """Return the `steps` + 1 noise levels that KSampler would use, on the CPU.

    Asked of it, as it spreads the steps of some samplers (uni_pc, dpm_2) in another way. A `shift`
    of 0 keeps the model's own.
    """
    if shift:
        model = model.clone()
        if not set_shift(model, shift):
            raise ValueError(
                f"shift {shift}: this model has no shift; take a flow model such as Wan"
            )
    return comfy.samplers.KSampler(model, steps, "cpu", sampler, scheduler, denoise).sigmas


# ---------------------------------------------------------------- pictures


def checked_vae(vae: VAE | None, frames: bool) -> VAE:
    """Raise ValueError unless this is a VAE for pictures, or for frames."""
    if vae is None or getattr(vae, "first_stage_model", None) is None:
        raise ValueError(
            "vae: there is none; connect Load VAE with the base model's own (FLUX.1 "
            "and Z-Image: ae.safetensors, Wan 2.2 14B: wan_2.1_vae.safetensors)"
        )
    if frames != (vae.latent_dim == 3):
        kind, other = ("pictures", "Image") if frames else ("videos", "Video")
        raise ValueError(
            f"vae: this one is for {kind}; use ByG {other} Edit, or load the VAE of the base model"
        )
    return vae


def pixel_multiple(vae: VAE) -> int:
    """Pixels per token side: the VAE's factor times the patch, 2 in all families."""
    return int(vae.spacial_compression_encode()) * 2


def of_wan_5b(vae: VAE) -> bool:
    """Whether this is the VAE of Wan 2.2 5B."""
    return vae.latent_dim == 3 and vae.latent_channels == 48


def encode(vae: VAE, images: Tensor, tiled: bool = False) -> Tensor:
    """Pictures (N, H, W, 3) -> latents (N, C, h, w); frames -> one latent (1, C, F, h, w)."""
    if not tiled:
        return vae.encode(images)
    return vae.encode_tiled(images, tile_x=512, tile_y=512, overlap=64, tile_t=64, overlap_t=8)


def decode_one(vae: VAE, latents: Tensor, picture: int, frame: int) -> Tensor:
    """Decode one picture (H, W, 3) of latents (N, C, h, w), or one frame of (N, C, F, h, w)."""
    latents = latents[picture : picture + 1]
    if latents.ndim == 4:
        return vae.decode(latents)[0]
    last = (frame + 3) // 4  # the latent frame that holds it
    first = max(0, last - BEFORE)
    # Within the slice: one frame of its first latent frame, four of each that follows.
    inside = 0 if last == first else 4 * (last - first - 1) + 1 + (frame - 1) % 4
    return vae.decode(latents[:, :, first : last + 1])[0, inside]


def frame_count(latents: Tensor) -> int:
    """Frames behind latents (N, C, F, h, w); 1 for pictures."""
    return 4 * (latents.shape[2] - 1) + 1 if latents.ndim == 5 else 1


# ---------------------------------------------------------------- a record of the model's calls


class NoisyState(NamedTuple):
    """One evaluation of the model: its input and prediction, normalised, on the CPU."""

    t: float  # noise level sigma
    x: Tensor  # y_t
    denoised: Tensor  # the one-step prediction y_hat = y_t - t v, guidance included
    call: int  # how many came before it
    stage: int  # 0: the first sampler, 1: the second one's


class Recorder:
    """Wraps a guider and keeps the evaluation nearest to each wanted noise level; None: of all.

    Samplers call the model as often and wherever they like, and what they report of it is not
    always what they asked; so this listens where they ask.
    """

    def __init__(self, levels: list[float] | None) -> None:
        self.nearest: dict[float, NoisyState | None] = dict.fromkeys(levels or ())
        self._all = levels is None
        self.calls, self.stage = 0, 0
        self._guider, self._mask, self._latent = None, None, None

    def listening(self, guider: Any, latent: Tensor | None, mask: Tensor | None) -> Recorder:
        self._guider, self._latent, self._mask = guider, latent, mask
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        denoised = self._guider(x, sigma, **options)
        t = float(sigma.flatten()[0])
        nearer = [t] * self._all or [
            level
            for level, state in self.nearest.items()
            if state is None or abs(t - level) < abs(state.t - level)
        ]
        if nearer:
            y_t, y_hat = x.detach().cpu().clone(), self._kept(denoised)
            self.nearest |= dict.fromkeys(nearer, NoisyState(t, y_t, y_hat, self.calls, self.stage))
        self.calls += 1
        return denoised

    def _kept(self, denoised: Tensor) -> Tensor:
        """Put the source outside of the mask, as the sampler will."""
        if self._mask is not None:
            denoised = denoised * self._mask + self._latent * (1 - self._mask)
        return denoised.detach().cpu().clone()


class _Listened(comfy.samplers.Sampler):
    """A sampler with a recorder between it and the guider."""

    def __init__(self, sampler: Any, recorder: Recorder) -> None:
        self.sampler, self.recorder = sampler, recorder

    def sample(
        self,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        ear = self.recorder.listening(guider, latent_image, denoise_mask)
        return self.sampler.sample(
            ear, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar
        )


class NoNoise:
    """The NOISE of a second sampler, as Disable Noise gives it."""

    seed = 0

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        return torch.zeros_like(latent["samples"], device="cpu")


def sample_recorded(
    noise: Any, guider: Any, sampler: Any, sigmas: Tensor, latent: dict, recorder: Recorder
) -> tuple[dict, dict]:
    """(output, denoised output) of the stock node SamplerCustomAdvanced, which this runs."""
    listened = _Listened(sampler, recorder)
    run = getattr(SamplerCustomAdvanced, "execute", None) or SamplerCustomAdvanced().sample
    result = run(noise, guider, listened, sigmas, latent)
    return result[0], result[1]


def probe(
    model: ModelPatcher,
    states: list[NoisyState],
    positive: Conditioning,
    negative: Conditioning | None = None,
    cfg: float = 1.0,
) -> list[Tensor]:
    """Compute the one-step predictions of another model or text at recorded states."""
    found: list[Tensor] = []

    def evaluate(
        network: Any, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, **_: Any
    ) -> Tensor:
        for state in states:
            t = x.new_full((len(x),), state.t)
            found.append(network(state.x.to(x), t, **(extra_args or {})).cpu())
        return x

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive if negative is None else negative)
    guider.set_cfg(cfg)
    nothing, whole = torch.zeros_like(states[0].x), torch.tensor([1.0, 0.0])
    sampler = comfy.samplers.KSAMPLER(evaluate)
    guider.sample(nothing, nothing, sampler, whole, disable_pbar=True)
    return found


def probe_like(model: ModelPatcher, guider: Any, states: list[NoisyState]) -> list[Tensor]:
    """Probe a model with a guider's conditioning; the source stands where its model puts it."""
    model, mode = model.clone(), guider.model_patcher.get_attachment(KEY)
    if mode is not None:
        place_source(model, mode)
    elif family(model) is not None:
        leave_out_source(model)
    given = {name: _conditioning(conds) for name, conds in guider.original_conds.items()}
    cfg = getattr(guider, "cfg", 1.0)
    return probe(model, states, given["positive"], given.get("negative"), cfg)


def with_guidance_of(guider: Any, conditioning: Conditioning) -> Conditioning:
    """Give a conditioning a guider's guidance, unless it has its own."""
    given = guider.original_conds["positive"][0].get("guidance")
    own = {} if given is None else {"guidance": given}
    return [[tokens, {**own, **values}] for tokens, values in conditioning]


def _conditioning(conds: list[dict[str, Any]]) -> Conditioning:
    """Convert a guider's conditioning to CONDITIONING."""
    ours = ("cross_attn", "model_conds", "uuid")
    return [
        [cond.get("cross_attn"), {k: v for k, v in cond.items() if k not in ours}] for cond in conds
    ]


def source_latent(guider: Any) -> Tensor | None:
    """The source that a guider's conditioning holds, normalised."""
    found = source_of(guider.original_conds["positive"])
    return None if found is None else into_model(guider.model_patcher, found).cpu()


def into_model(model: ModelPatcher, latent: Tensor) -> Tensor:
    """Normalise a VAE's latent for a model."""
    return model.model.process_latent_in(latent)


def out_of_model(model: ModelPatcher, latent: Tensor) -> Tensor:
    """The inverse of `into_model`."""
    return model.model.process_latent_out(latent)


def has_patches(model: ModelPatcher) -> bool:
    """Whether any LoRA is on a model."""
    return bool(model.patches)
