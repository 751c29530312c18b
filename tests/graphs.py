"""Graphs that tests run inside ComfyUI (comfy_host.in_host); no trainer is imported here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from comfy_host import call
from torch import Tensor

from byg_train.models.lora_file import LoraInfo

SEED = 7
# The world's own size; a model as small as this one does not run at a megapixel.
SMALL = {"size_mode": "exact size", "width": 48, "height": 48}
INSTRUCTION = "change the background to a red striped ground"
GUIDANCE = 2.0
INFO = LoraInfo(
    base="world", family="flux", reference_mode="index", text_len=24, instructions=[INSTRUCTION],
    reverse_instructions=["undo"], resolution=48, guidance_train=2.0, guidance_prior=2.0,
    guidance_sample=GUIDANCE, sample_steps=8, sample_shift=1.5, rank=4, steps=300, weights="edit",
    dataset="12e4", multiple=8,
)  # fmt: skip


def pack(name: str) -> object:
    """A module of the node pack, as the host loaded it."""
    import importlib

    from comfy_host import ROOT

    return importlib.import_module(f"{str(ROOT).replace('.', '_x_')}.nodes.{name}")


@cache
def world() -> tuple:
    """MODEL, CLIP, VAE and an example, built once."""
    return call("ByG_TinyWorld")[:4]


def encoded(text: str) -> list:
    positive = call("CLIPTextEncode", clip=world()[1], text=text)[0]
    return call("FluxGuidance", conditioning=positive, guidance=GUIDANCE)[0]


def texts(texts: list[str]) -> tuple[Tensor, Tensor]:
    found = [call("CLIPTextEncode", clip=world()[1], text=text)[0][0] for text in texts]
    return torch.cat([f[0] for f in found]), torch.cat([f[1]["pooled_output"] for f in found])


def vae(image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    vae = world()[2]
    return (
        call("VAEEncode", vae=vae, pixels=image)[0]["samples"],
        call("VAEDecode", vae=vae, samples={"samples": latent})[0],
    )


def velocity(lora: str | None, x: Tensor, t: float, source: Tensor | None) -> Tensor:
    """v of a model under a guider, as samplers see it; latents are normalised."""
    import comfy.samplers

    model, positive = world()[0], encoded(INSTRUCTION)
    if source is not None:
        plain = {"samples": model.model.process_latent_out(source)}
        positive = call("ReferenceLatent", conditioning=positive, latent=plain)[0]
        model = call("ByG_Loader", model=model, lora_name=f"{lora}.safetensors")[0]
    elif lora is not None:
        model = call("LoraLoaderModelOnly", model=model, lora_name=f"{lora}.safetensors")[0]
    guider, seen = call("BasicGuider", model=model, conditioning=positive)[0], []

    def once(network, noise, sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202
        seen.append(network(x, torch.tensor([t]), **extra_args))
        return noise

    sampler, nothing = comfy.samplers.KSAMPLER(once), torch.zeros_like(x)
    guider.sample(nothing, nothing, sampler, torch.tensor([1.0, 0.0]))
    return (x - seen[0]) / t


def edit(lora: str, image: Tensor) -> Tensor:
    """The graph of an artist, with a KSampler; the picture at the end."""
    model, _, vae, _ = world()
    model, _, info, _ = call("ByG_Loader", model=model, lora_name=f"{lora}.safetensors")
    positive = call("CLIPTextEncode", clip=world()[1], text=INSTRUCTION)[0]
    positive, negative, latent, _, fit = call(
        "ByG_ImageEdit", positive=positive, vae=vae, image=image, info=info
    )
    (latent,) = call(
        "KSampler", model=model, seed=SEED, steps=info.sample_steps, cfg=1.0,
        sampler_name="euler", scheduler="simple", positive=positive, negative=negative,
        latent_image=latent, denoise=1.0,
    )  # fmt: skip
    (decoded,) = call("VAEDecode", vae=vae, samples=latent)
    return call("ByG_Finish", images=decoded, fit=fit)[0]


def stock(lora: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """Latents of a graph of stock nodes, and of ours."""
    (model, clip, vae, _), name = world(), f"{lora}.safetensors"
    common = dict(
        seed=SEED, steps=INFO.sample_steps, cfg=1.0, sampler_name="euler", scheduler="simple"
    )
    (theirs,) = call("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
    mu = float(np.log(INFO.sample_shift))
    (theirs,) = call("ModelSamplingFlux", model=theirs, max_shift=mu, base_shift=mu)
    (latent,) = call("VAEEncode", vae=vae, pixels=image)
    words = encoded(INSTRUCTION)
    (positive,) = call("ReferenceLatent", conditioning=words, latent=latent)
    (negative,) = call("ConditioningZeroOut", conditioning=words)
    texts = {"positive": positive, "negative": negative}
    stock = call("KSampler", model=theirs, latent_image=latent, **texts, **common)
    ours, _, info, _ = call("ByG_Loader", model=model, lora_name=name)
    text = call("CLIPTextEncode", clip=clip, text=INSTRUCTION)[0]
    positive, negative, latent, *_ = call(
        "ByG_ImageEdit", positive=text, vae=vae, image=image, info=info
    )
    texts = {"positive": positive, "negative": negative}
    byg = call("KSampler", model=ours, latent_image=latent, **texts, **common)
    return stock[0]["samples"], byg[0]["samples"]


def base_before_and_after(lora: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """Samples of the bare model, drawn before and after our nodes used it."""

    def sample() -> Tensor:
        words = encoded("a 3d render of an apple on a blue ground")
        empty = {"samples": torch.zeros(1, 8, 12, 12)}
        return call(
            "KSampler", model=world()[0], seed=1, steps=3, cfg=1.0, sampler_name="euler",
            scheduler="simple", positive=words, negative=words, latent_image=empty,
        )[0]["samples"]  # fmt: skip

    before = sample()
    edit(lora, image)
    return before, sample()


def example() -> Tensor:
    return world()[3]


def told(node: str, **inputs: object) -> dict:
    """What a node tells the frontend."""
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[node].PREPARE_CLASS_CLONE({})
    found = kind.EXECUTE_NORMALIZED(**inputs).ui
    return found if isinstance(found, dict) else found.as_dict()


def shown(node: str, **inputs: object) -> str:
    """The text under a node."""
    return told(node, **inputs)["text"][0]


# ---------------------------------------------------------------- ByG Image Edit, ByG Finish


def image_edit(image: Tensor, widgets: dict, info: LoraInfo | None = None) -> dict:
    """What ByG Image Edit gives: conditionings, latent, image, fit."""
    words = call("CLIPTextEncode", clip=world()[1], text=INSTRUCTION)[0]
    given = {"positive": words, "vae": world()[2], "image": image, **widgets}
    given |= {} if info is None else {"info": info}
    names = ("positive", "negative", "latent", "image", "fit")
    return dict(zip(names, call("ByG_ImageEdit", **given), strict=True))


def image_shapes(image: Tensor, widgets: dict, info: LoraInfo | None = None) -> dict:
    """Sizes and values of that, beside what stock nodes make of the same picture."""
    found = image_edit(image, widgets, info)
    latent = found["latent"]["samples"]
    stock = call("VAEEncode", vae=world()[2], pixels=found["image"])[0]["samples"]
    zero = call("ConditioningZeroOut", conditioning=found["positive"])[0]
    sides = {name: found[name][0][1] for name in ("positive", "negative")}
    return {
        "image": found["image"],
        "latent": latent,
        "stock": stock,
        "mask": found["latent"].get("noise_mask"),
        "guidance": [values.get("guidance") for values in sides.values()],
        "references": [values["reference_latents"] for values in sides.values()],
        "zero": all(
            torch.equal(a, b)
            for a, b in (
                (found["negative"][0][0], zero[0][0]),
                (sides["negative"]["pooled_output"], zero[0][1]["pooled_output"]),
            )
        ),
    }


def refused_image(image: Tensor, widgets: dict, info: LoraInfo | None = None) -> None:
    """For complaints."""
    image_edit(image, widgets, info)


def refused_vae(image: Tensor, kind: str) -> None:
    """A VAE that is empty, or one for videos."""
    from types import SimpleNamespace

    from graphs_wan import wan_vae

    empty = SimpleNamespace(first_stage_model=None, latent_dim=2)
    image_edit(image, {"vae": {"empty": empty, "video": wan_vae()}[kind], **SMALL})


def refused_texts(image: Tensor, kind: str) -> None:
    """A conditioning that holds a source already, or texts that do not pair with the pictures."""
    words = encoded(INSTRUCTION)
    if kind == "source":
        words = call("ReferenceLatent", conditioning=words, latent={"samples": image})[0]
    else:
        words = [[words[0][0].expand(3, -1, -1), words[0][1]]]
    image_edit(image, {"positive": words, **SMALL})


def guidance_of_the_artist(image: Tensor, info: LoraInfo) -> float:
    """With Flux Guidance in front of ByG Image Edit."""
    words = call("FluxGuidance", conditioning=encoded(INSTRUCTION), guidance=7.5)[0]
    return image_edit(image, {"positive": words}, info)["positive"][0][1]["guidance"]


def batched(lora: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Edits of pictures in one batch, and one by one; the noise is the same for all."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]

    def run(image: Tensor) -> Tensor:
        found = image_edit(image, SMALL)
        latent = {**found["latent"], "batch_index": [0] * len(image)}
        return call(
            "KSampler", model=model, seed=SEED, steps=3, cfg=2.0, sampler_name="euler",
            scheduler="simple", positive=found["positive"], negative=found["negative"],
            latent_image=latent,
        )[0]["samples"]  # fmt: skip

    return run(images), torch.cat([run(image[None]) for image in images])


def masked(lora: str, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The latent of an edit inside a mask, the source's, and the finished picture."""
    model = call("ByG_Loader", model=world()[0], lora_name=lora)[0]
    found = image_edit(image, {"mask": mask, **SMALL})
    (latent,) = call(
        "KSampler", model=model, seed=SEED, steps=3, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=found["positive"], negative=found["negative"],
        latent_image=found["latent"],
    )  # fmt: skip
    (decoded,) = call("VAEDecode", vae=world()[2], samples=latent)
    finished = call("ByG_Finish", images=decoded, fit=found["fit"], feather=4)[0]
    return latent["samples"], found["latent"]["samples"], finished


def finish(image: Tensor, result: Tensor | None, edit: dict, widgets: dict) -> Tensor:
    """ByG Finish on what the model saw, or on a result of another size or number."""
    found = image_edit(image, edit)
    images = found["image"].repeat_interleave(edit.get("batch_size", 1), 0)
    images = images if result is None else result
    return call("ByG_Finish", images=images, fit=found["fit"], **widgets)[0]


def finish_white(image: Tensor, edit: dict, widgets: dict) -> Tensor:
    """ByG Finish on an all-white result of the right size."""
    found = image_edit(image, edit)
    return call("ByG_Finish", images=torch.ones_like(found["image"]), fit=found["fit"], **widgets)[
        0
    ]


def note_on_text(image: Tensor, info: LoraInfo) -> str:
    """What ByG Image Edit says of the text's length."""
    inputs = {"positive": encoded(INSTRUCTION), "vae": world()[2], "image": image}
    return shown("ByG_ImageEdit", **inputs, info=info)


# ---------------------------------------------------------------- ByG Compare


def compare(a: Tensor, b: Tensor, mode: str) -> Tensor:
    """The picture."""
    return call("ByG_Compare", a=a, b=b, mode=mode)[0]


def under_the_slider(a: Tensor, b: Tensor, fps: float) -> tuple[list[np.ndarray], float, list]:
    """The files of ByG Compare's slider as pictures or frames, their rate, and the labels."""
    import av
    import folder_paths
    from PIL import Image

    given = {"a": a, "b": b, "mode": "wipe", "label_a": "before", "label_b": "after", "fps": fps}
    said = told("ByG_Compare", **given)
    entries, temp = said["before_after"], Path(folder_paths.get_temp_directory())
    files = [temp / entry["subfolder"] / entry["filename"] for entry in entries]
    if not entries[0]["clip"]:
        return [np.asarray(Image.open(file)) for file in files], 0.0, said["labels"]
    with av.open(str(files[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, float(container.streams.video[0].average_rate), said["labels"]
