"""Graphs around ByG Loader (see graphs.py)."""

from __future__ import annotations

import torch
from comfy_host import call
from graphs import INSTRUCTION, SEED, SMALL, encoded, pack, world
from graphs_wan import wan
from torch import Tensor


def load(lora: str, **widgets: object) -> str:
    """Its report, for the tiny world's model."""
    return call("ByG_Loader", model=world()[0], lora_name=lora, **widgets)[3]


def load_warned(lora: str) -> str:
    """Its report when it may leave out what does not fit."""
    return load(lora, on_mismatch="warn")


def load_wan(lora: str, low: bool = False, **widgets: object) -> tuple[str, list[int]]:
    """Its report for a tiny Wan, and how many weights are patched in each model."""
    models = {"model": wan(), **({"model_low": wan()} if low else {})}
    *found, _, report = call("ByG_Loader", lora_name=lora, **models, **widgets)
    return report, [len(model.patches) for model in found if model is not None]


def load_pair(lora: str, low: str, kind: str) -> str:
    """Its report with FLUX, or Wan 2.2 5B, for the second model."""
    second = {"flux": lambda: world()[0], "5b": lambda: wan(1, 48)}[kind]()
    models = {"model": wan(), "model_low": second}
    return call("ByG_Loader", lora_name=lora, lora_low_name=low, **models)[3]


def load_other_shape(kind: str, lora: str, changes: dict) -> str:
    """On a relative of the base: FLUX.1-schnell or -Fill, Wan for image-to-video."""
    import copy

    model = {"flux": world()[0], "wan": wan()}[kind].clone()
    model.model, config = copy.copy(model.model), model.model.model_config
    # By hand: in later hosts these answer to every name, those that `copy` asks for too.
    other = object.__new__(type(config))
    vars(other).update(vars(config), unet_config={**config.unet_config, **changes})
    model.model.model_config = other
    return call("ByG_Loader", model=model, lora_name=lora)[3]


def names() -> list[str]:
    """The LoRAs to choose from."""
    return pack("host.lora").lora_names()


def shifts_and_positions(lora: str, low: str) -> list[tuple[float, str | None]]:
    """Of both models of a pair: the shift of its schedule, where it places its source."""
    pair = call("ByG_Loader", model=wan(), model_low=wan(1), lora_name=lora, lora_low_name=low)[:2]
    return [
        (model.get_model_object("model_sampling").shift, model.get_attachment("byg"))
        for model in pair
    ]


def load_twice(first: str, second: str) -> int:
    """How often a weight is patched behind two Loaders, one after the other."""
    model = call("ByG_Loader", model=world()[0], lora_name=first)[0]
    model = call("ByG_Loader", model=model, lora_name=second)[0]
    return max(len(patches) for patches in model.patches.values())


def fingerprint(lora: str) -> list:
    """What tells the host whether to load again."""
    import nodes

    return nodes.NODE_CLASS_MAPPINGS["ByG_Loader"].fingerprint_inputs(lora_name=lora)


def sample_source(model: object, image: Tensor) -> Tensor:
    """The latent of an edit by a model."""
    positive, negative, latent, *_ = call(
        "ByG_ImageEdit", positive=encoded(INSTRUCTION), vae=world()[2], image=image, **SMALL
    )
    return call(
        "KSampler", model=model, seed=SEED, steps=2, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=positive, negative=negative, latent_image=latent,
    )[0]["samples"]  # fmt: skip


def stacked(lora: str, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A second LoRA by the stock loader before ours, behind it, and not at all."""
    stock = {"lora_name": "second.safetensors", "strength_model": 0.7}
    base = world()[0]
    before = call("LoraLoaderModelOnly", model=base, **stock)[0]
    before = call("ByG_Loader", model=before, lora_name=lora)[0]
    alone = call("ByG_Loader", model=base, lora_name=lora)[0]
    behind = call("LoraLoaderModelOnly", model=alone, **stock)[0]
    return tuple(sample_source(m, image) for m in (before, behind, alone))


def at_strength_zero(lora: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """An edit with a LoRA of strength 0, and by the base model with the same schedule."""
    same = {"lora_name": lora, "schedule": "as the model is"}
    none = call("ByG_Loader", model=world()[0], strength=0.0, **same)[0]
    return sample_source(none, image), sample_source(world()[0], image)


def without_source(lora: str) -> None:
    """A text-to-image graph behind ByG Loader."""
    model, words = call("ByG_Loader", model=world()[0], lora_name=lora)[0], encoded("an apple")
    empty = {"samples": torch.zeros(1, 8, 12, 12)}
    call(
        "KSampler", model=model, seed=1, steps=2, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=words, negative=words, latent_image=empty,
    )  # fmt: skip


def with_memory(lora: str, image: Tensor, limit: int) -> Tensor:
    """An edit on a device that has `limit` bytes."""
    import comfy.model_management as management

    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    real, management.get_total_memory = management.get_total_memory, lambda device: limit
    try:
        return sample_source(model, image)
    finally:
        management.get_total_memory = real


def out_of_memory(lora: str, image: Tensor, limit: int) -> str:
    """What is said when a device with room for `limit` tokens meets more of them."""
    from comfy.patcher_extension import WrappersMP

    def network(executor, x, *rest, **more):  # noqa: ANN001, ANN002, ANN003, ANN202
        if x.shape[-1] * x.shape[-2] > limit:
            raise torch.OutOfMemoryError("Allocation on device")
        return executor(x, *rest, **more)

    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "limit", network)
    try:
        sample_source(model, image)
    except torch.OutOfMemoryError as error:
        return str(error)
    return ""


def schedules(lora: str) -> dict[str, list[float]]:
    """Four noise levels of a scheduler behind ByG Loader, in both settings, and of the base."""
    models = {"base": world()[0]}
    for choice in ("as trained", "as the model is"):
        models[choice] = call("ByG_Loader", model=world()[0], lora_name=lora, schedule=choice)[0]
    return {
        name: call("BasicScheduler", model=model, scheduler="simple", steps=4, denoise=1.0)[0]
        for name, model in models.items()
    }  # fmt: skip
