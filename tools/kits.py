"""What a graph edits with: FLUX.1-dev, Z-Image, Wan 2.2, or the tiny world: no download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .canvas import Canvas, Model, Socket

HUB = "https://huggingface.co"
WAN_REPOSITORY = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
# The files of ComfyUI's own templates, by their names.
FLUX = Model(
    "flux1-dev.safetensors",
    f"{HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
    "diffusion_models",
)
TEXT_ENCODERS = f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main"
CLIP_L = Model("clip_l.safetensors", f"{TEXT_ENCODERS}/clip_l.safetensors", "text_encoders")
T5 = Model("t5xxl_fp16.safetensors", f"{TEXT_ENCODERS}/t5xxl_fp16.safetensors", "text_encoders")
FLUX_VAE = Model(
    "ae.safetensors",
    f"{HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors",
    "vae",
)

# ComfyUI's own templates take text encoder and VAE from Turbo's repository for both.
Z_IMAGE_FILES = f"{HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files"
QWEN_NAME, Z_TURBO_NAME = "qwen_3_4b.safetensors", "z_image_turbo_bf16.safetensors"
QWEN = Model(QWEN_NAME, f"{Z_IMAGE_FILES}/text_encoders/{QWEN_NAME}", "text_encoders")
Z_IMAGE_VAE = Model("ae.safetensors", f"{Z_IMAGE_FILES}/vae/ae.safetensors", "vae")
Z_IMAGE = Model(
    "z_image_bf16.safetensors",
    f"{HUB}/Comfy-Org/z_image/resolve/main/split_files/diffusion_models/z_image_bf16.safetensors",
    "diffusion_models",
)
Z_TURBO = Model(
    Z_TURBO_NAME, f"{Z_IMAGE_FILES}/diffusion_models/{Z_TURBO_NAME}", "diffusion_models"
)

# Wan 2.2's own, which ComfyUI's templates have too.
WAN_NEGATIVE = (
    "色调艳丽,过曝,静态,细节模糊不清,字幕,风格,作品,画作,画面,静止,整体发灰,最差质量,低质量,JPEG压缩残留,"
    "丑陋的,残缺的,多余的手指,画得不好的手部,画得不好的脸部,畸形的,毁容的,形态畸形的肢体,手指融合,"
    "静止不动的画面,杂乱的背景,三条腿,背景人很多,倒着走"
)


def _wan(name: str, directory: str) -> Model:
    return Model(name, f"{WAN_REPOSITORY}/{directory}/{name}", directory)


WAN_HIGH = _wan("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "diffusion_models")
WAN_LOW = _wan("wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", "diffusion_models")
WAN_VAE = _wan("wan_2.1_vae.safetensors", "vae")
WAN_5B = _wan("wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models")
WAN_5B_VAE = _wan("wan2.2_vae.safetensors", "vae")
LIGHTNING = tuple(
    _wan(f"wan2.2_t2v_lightx2v_4steps_lora_v1.1_{expert}_noise.safetensors", "loras")
    for expert in ("high", "low")
)
HYPER_NAME = "Hyper-FLUX.1-dev-8steps-lora.safetensors"
HYPER = Model(HYPER_NAME, f"{HUB}/ByteDance/Hyper-SD/resolve/main/{HYPER_NAME}", "loras")
UMT5_NAME = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
UMT5 = Model(
    UMT5_NAME,
    f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders/{UMT5_NAME}",
    "text_encoders",
)


@dataclass(frozen=True)
class Base:
    """What loaders give."""

    model: Socket
    clip: Socket
    vae: Socket
    model_low: Socket | None = None
    picture: Socket | None = None  # an example picture, or the frames of an example clip


@dataclass(frozen=True)
class Turbo:
    """LoRAs of others, with which few steps are enough."""

    files: tuple[Model, ...]  # for each network
    strength: float
    shift: float | None  # of the schedule that they were distilled for; None: any


@dataclass(frozen=True)
class Kit:
    """A base and what to say to it."""

    load: Callable[[Canvas], Base]
    files: tuple[Model, ...]  # to download
    lora: str
    instruction: str
    reverse: str
    captions: tuple[str, str]  # source and wanted result in words
    prefix: str  # of saved files
    yours: str  # what the artist brings
    steps: int = 20
    cfg: tuple[float, float] = (1.0, 1.0)  # of a pair at high noise and at low
    fps: float = 16.0  # of clips, as the model works
    small: bool = False  # pictures of the tiny world's size
    negative: str = ""  # what cfg leads away from
    turbo: Turbo | None = None
    listed: bool = False  # the instruction is chosen from the list of what the LoRAs know
    window: int | None = None  # frames of a clip that are sampled at once; None: all
    sampler: str = "uni_pc"  # of clips


def _flux(c: Canvas) -> Base:
    with c.stage("1  Models", 340):
        name = {"unet_name": FLUX.name, "weight_dtype": "default"}
        model = c.add("UNETLoader", name, models=(FLUX,))
        names = {"clip_name1": CLIP_L.name, "clip_name2": T5.name, "type": "flux"}
        clip = c.add("DualCLIPLoader", names, models=(CLIP_L, T5))
        vae = c.add("VAELoader", {"vae_name": FLUX_VAE.name}, models=(FLUX_VAE,))
    return Base(model["MODEL"], clip["CLIP"], vae["VAE"])


def _z_image(transformer: Model, c: Canvas) -> Base:
    with c.stage("1  Models", 340):
        name = {"unet_name": transformer.name, "weight_dtype": "default"}
        model = c.add("UNETLoader", name, models=(transformer,))
        clip = c.add("CLIPLoader", {"clip_name": QWEN.name, "type": "lumina2"}, models=(QWEN,))
        vae = c.add("VAELoader", {"vae_name": Z_IMAGE_VAE.name}, models=(Z_IMAGE_VAE,))
    return Base(model["MODEL"], clip["CLIP"], vae["VAE"])


def _wan_pair(c: Canvas) -> Base:
    with c.stage("1  Models", 400):
        high, low = (
            c.add("UNETLoader", {"unet_name": file.name}, models=(file,), title=title)
            for file, title in ((WAN_HIGH, "High-noise model"), (WAN_LOW, "Low-noise model"))
        )
        names = {"clip_name": UMT5.name, "type": "wan"}
        clip = c.add("CLIPLoader", names, models=(UMT5,))
        vae = c.add("VAELoader", {"vae_name": WAN_VAE.name}, models=(WAN_VAE,))
    return Base(high["MODEL"], clip["CLIP"], vae["VAE"], model_low=low["MODEL"])


def _wan_5b(c: Canvas) -> Base:
    with c.stage("1  Models", 400):
        model = c.add("UNETLoader", {"unet_name": WAN_5B.name}, models=(WAN_5B,))
        names = {"clip_name": UMT5.name, "type": "wan"}
        clip = c.add("CLIPLoader", names, models=(UMT5,))
        vae = c.add("VAELoader", {"vae_name": WAN_5B_VAE.name}, models=(WAN_5B_VAE,))
    return Base(model["MODEL"], clip["CLIP"], vae["VAE"])


def _tiny_picture(c: Canvas) -> Base:
    with c.stage("1  Ships with ByG", 340, to_set=True):
        world = c.add("ByG_TinyWorld", {"media": "picture", "style": "ink drawing"})
    return Base(world["MODEL"], world["CLIP"], world["VAE"], picture=world["image"])


def _tiny_clip(c: Canvas) -> Base:
    with c.stage("1  Ships with ByG", 340, to_set=True):
        world = c.add("ByG_TinyWorld", {"media": "clip", "style": "ink drawing"})
    outputs = (world[name] for name in ("MODEL", "CLIP", "VAE", "model_low", "image"))
    return Base(*outputs)


FLUX_KIT = Kit(
    load=_flux,
    files=(FLUX, CLIP_L, T5, FLUX_VAE),
    lora="my_style.safetensors",
    instruction="Turn the picture into 3d cartoon style",
    reverse="Turn the picture into photo style",
    captions=("a photo of two rabbits in a meadow", "a 3d cartoon of two rabbits in a meadow"),
    prefix="ByG/edit",
    yours="Your LoRA and picture",
)
Z_IMAGE_KIT = replace(
    FLUX_KIT,
    load=partial(_z_image, Z_IMAGE),
    files=(Z_IMAGE, QWEN, Z_IMAGE_VAE),
    steps=25,
    cfg=(4.0, 4.0),  # both of ComfyUI's template
)
Z_TURBO_KIT = replace(
    FLUX_KIT,
    load=partial(_z_image, Z_TURBO),
    files=(Z_TURBO, QWEN, Z_IMAGE_VAE),
    steps=8,
)
WAN_KIT = Kit(
    load=_wan_pair,
    files=(WAN_HIGH, WAN_LOW, UMT5, WAN_VAE),
    lora="my_style_high_noise.safetensors",
    instruction="Turn the video into 3d cartoon style",
    reverse="Turn the video into photo-realistic style",
    captions=("a photo-realistic video of a fox", "a 3d cartoon video of a fox"),
    prefix="ByG/clip",
    yours="Your LoRA pair and clip",
    steps=40,
    cfg=(4.0, 3.0),  # Wan's own
    negative=WAN_NEGATIVE,
)
FEW_STEPS_KIT = replace(
    FLUX_KIT,
    files=(*FLUX_KIT.files, HYPER),
    prefix="ByG/few_steps",
    steps=8,
    turbo=Turbo((HYPER,), 0.125, None),
)
WAN_FEW_STEPS_KIT = replace(
    WAN_KIT,
    files=(*WAN_KIT.files, *LIGHTNING),
    prefix="ByG/few_steps",
    steps=4,
    cfg=(1.0, 1.0),
    sampler="euler",
    turbo=Turbo(LIGHTNING, 1.0, 5.0),
)
WAN_LONG_KIT = replace(WAN_KIT, prefix="ByG/film", window=81)
WAN_5B_KIT = replace(
    WAN_KIT,
    load=_wan_5b,
    files=(WAN_5B, UMT5, WAN_5B_VAE),
    lora="my_style.safetensors",
    yours="Your LoRA and clip",
    steps=50,
    cfg=(5.0, 5.0),  # Wan's own
    fps=24.0,
)
TINY_KIT = Kit(
    load=_tiny_picture,
    files=(),
    lora="ByG tiny world: demo",
    instruction="turn the ink drawing into a 3d render with a red subject",
    reverse="turn the 3d render into an ink drawing",
    captions=(
        "an ink drawing of a fox on a blue ground",
        "a 3d render of a red fox on a blue ground",
    ),
    prefix="ByG/tiny",
    yours="Its LoRA",
    small=True,
    steps=12,  # as the LoRA's metadata says
)
TINY_CLIP_KIT = Kit(
    load=_tiny_clip,
    files=(),
    lora="ByG tiny world: demo_video_high_noise",
    instruction="turn the video into a 3d render with a red subject",
    reverse="turn the video into an ink drawing",
    captions=TINY_KIT.captions,
    prefix="ByG/tiny_clip",
    yours="Their LoRAs",
    small=True,
    fps=8.0,
    listed=True,
)
TINY_FEW_STEPS_KIT = replace(TINY_KIT, prefix="ByG/tiny_few_steps", steps=4)
TINY_CLIP_FEW_STEPS_KIT = replace(TINY_CLIP_KIT, prefix="ByG/tiny_clip_few_steps", steps=4)
# What `export` fills in for LoRAs of few steps, which say themselves of how many.
OWN_FEW_STEPS_KIT = replace(WAN_KIT, steps=0, cfg=(1.0, 1.0))
OWN_FEW_STEPS_5B_KIT = replace(WAN_5B_KIT, steps=0, cfg=(1.0, 1.0))
