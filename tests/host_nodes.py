"""Custom nodes of the tests' server: small models, like those of ByG Tiny World."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar


def pack(name: str) -> ModuleType:
    """A module of the node pack, whatever its folder is called; imported if nothing has yet."""
    nodes = next(n for n in sys.modules if n.endswith(".nodes.host"))
    return import_module(f"{nodes.removesuffix('.host')}.{name}")


class TestTinyWan:
    """MODEL, CLIP, VAE, nothing, and the low-noise MODEL: the outputs of ByG Tiny World."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "IMAGE", "MODEL")
    FUNCTION = "load"
    CATEGORY = "test"
    __test__: ClassVar[bool] = False  # for pytest

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  ComfyUI's name
        return {"required": {"folder": ("STRING", {})}}

    def load(self, folder: str) -> tuple:
        host, path = pack("host.tiny_wan"), Path(folder)
        high, low = host.load_models(path)
        return high, host.load_clip(path), host.load_vae(path), None, low


class TestTinyWan5B(TestTinyWan):
    """The same of Wan 2.2 5B, which is one network: its classes at small sizes, random weights.

    The folder, of a pair, gives the words and the sizes.
    """

    def load(self, folder: str) -> tuple:
        import torch

        torch.manual_seed(0)
        path = Path(folder)
        return _model_5b(path), pack("host.tiny_wan").load_clip(path), _vae_5b(), None, None


class TestTinyZImage(TestTinyWan):
    """The same of Z-Image, of its own folder."""

    def load(self, folder: str) -> tuple:
        return (
            *pack("host.families").host_named("z_image").open_embedded(Path(folder))[:3],
            None,
            None,
        )


def _model_5b(folder: Path) -> Any:
    import comfy.model_management as management
    import comfy.supported_models
    import torch
    from comfy.model_patcher import ModelPatcher

    shape = pack("host.tiny_wan").network_shape(folder, "transformer")
    config = comfy.supported_models.WAN22_T2V({**shape, "in_dim": 48, "out_dim": 48})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    _randomise(model.diffusion_model)
    return ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def _vae_5b() -> Any:
    import comfy.ldm.wan.vae2_2 as module
    import comfy.sd

    with small(module, dim=8, dec_dim=8):
        network = module.WanVAE(z_dim=48, temperal_downsample=[False, True, True])
        _randomise(network)
        return comfy.sd.VAE(sd=network.state_dict())


@contextmanager
def small(module: ModuleType, **sizes: int) -> Iterator[None]:
    """ComfyUI tells a Wan VAE by its weights and builds the full size; in here a smaller one."""
    whole = module.WanVAE
    module.WanVAE = lambda **config: whole(**{**config, **sizes})
    try:
        yield
    finally:
        module.WanVAE = whole


def _randomise(network: Any) -> None:
    """Ones for norms, and matrices that keep the size of what goes through them."""
    import torch

    for name, weight in network.named_parameters():
        if "norm" in name or name.endswith("gamma"):
            torch.nn.init.ones_(weight)
        else:
            torch.nn.init.normal_(weight, std=max(1, weight[0].numel()) ** -0.5)


NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in (TestTinyWan, TestTinyWan5B, TestTinyZImage)}
