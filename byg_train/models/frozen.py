"""What the backbones of all families do with a base's frozen parts: load, prepare, compute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import ConfigError, ModelConfig
from ..family import family_of, part_folder
from .checkpointing import boundaries, use_checkpointing
from .fast_cpu import use_fast_attention, use_fast_gelu
from .locate import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .backbone import Text

    # Expert -> its network; "transformer" for one alone.
    Networks = dict[str, nn.Module]


class TextEncoder(NamedTuple):
    """A text encoder of transformers with its tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel


class FrozenParts(ABC):
    """What the backbones of all families have in common: a base's settings, encoders and VAE."""

    vae: nn.Module

    def __init__(
        self, config: ModelConfig, folder: Path, load: Callable[[], Networks], device: str
    ) -> None:
        self.config, self.device, self._folder = config, torch.device(device), folder
        self._load = load
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        # Experts without a LoRA: they are the base, which has never seen a source.
        self.without_lora: Collection[str] = ()
        self._encoders: Any = None
        parts = family_of(config.family).bases.parts
        self.fingerprint = fingerprint(folder, parts, config.text_len, config.dtype)

    @cached_property
    def experts(self) -> nn.ModuleDict:
        """The networks, loaded when they are first asked for.

        A run encodes before: then text encoders and networks are never in main memory together.
        """
        networks = {expert: self._prepared(network) for expert, network in self._load().items()}
        experts = nn.ModuleDict(networks)
        self._loaded(experts)
        return experts

    @abstractmethod
    def _loaded(self, networks: nn.ModuleDict) -> None:
        """Take note of networks before anything is put into them."""

    def _prepared(self, network: nn.Module) -> nn.Module:
        return prepare(network, self.config)

    def outline(self) -> nn.Module:
        """The layers of a network without weights, as its configuration has them."""
        import diffusers

        kind = getattr(diffusers, family_of(self.config.family).lora.transformer)
        with torch.device("meta"):
            return kind.from_config(kind.load_config(self._folder / "transformer"))

    def _mean_latents(self, pixels: Tensor) -> Tensor:
        """The posterior's mean, not a draw: each picture or clip has one latent, in the cache, in
        `edit` and in ComfyUI, which takes the mean too."""
        vae = self.vae.to(self.device)  # after `drop_encoders` a part of it may be elsewhere
        return vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mean

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Text:
        """Prompt embeddings of B texts; the encoders are loaded on first use.

        They are large (UMT5 has 11 GB), and a run whose cache is full never needs them.
        """
        if self._encoders is None:
            self._encoders = self._load_encoders()
        return self._encode(self._encoders, texts)

    @abstractmethod
    def _load_encoders(self) -> Any:
        """Tokenizers and text encoders."""

    def _text_encoder(self, kind: Any) -> TextEncoder:
        """The base's one text encoder, of a class of transformers."""
        from transformers import AutoTokenizer

        return TextEncoder(
            AutoTokenizer.from_pretrained(self._folder / "tokenizer"),
            text_encoder(kind, self._folder / "text_encoder", self.dtype, self.device),
        )

    @abstractmethod
    def _encode(self, encoders: Any, texts: list[str]) -> Text:
        """Prompt embeddings of B texts by what `_load_encoders` gave."""

    def drop_encoders(self) -> None:
        """Free the device of text encoders and VAE encoder; they come back when used again.

        Only then do LoRAs and the first network go there: beside UMT5 they would need 30 GB more.
        """
        self._encoders = None
        self.vae.encoder.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if "experts" in vars(self):
            self._place()

    @abstractmethod
    def _place(self) -> nn.Module:
        """The network that is needed first, on the device."""


def frozen(part: nn.Module) -> nn.Module:
    """A part that never trains."""
    return part.requires_grad_(False).eval()


def prepare(network: nn.Module, config: ModelConfig) -> nn.Module:
    """A diffusers transformer, frozen, and as memory and speed are set."""
    frozen(network)
    use_checkpointing(network, config)
    if config.attention != "auto":
        from diffusers.models.attention_dispatch import attention_backend

        # Alone, this call would choose the kernel for every other model of the process too.
        with attention_backend():
            network.set_attention_backend(f"_native_{config.attention}")
    if config.compile:
        # A graph per role, gradient mode, source, shape: above 8, the default, it stays eager.
        torch._dynamo.config.recompile_limit = 64
        network.compile_repeated_blocks()
    else:
        use_fast_gelu(network)
        use_fast_attention(network)
    return network


def autoencoder(kind: Any, folder: Path, device: torch.device) -> nn.Module:
    """A VAE of a class of diffusers. Float32 whatever the transformer is: small, and run once."""
    vae = kind.from_pretrained(
        part_folder(folder, "vae"), torch_dtype=torch.float32, use_safetensors=True
    )
    return frozen(vae).to(device)


def text_encoder(kind: Any, path: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A text encoder of a class of transformers, loaded without a bar: it would cut through ours.

    transformers draws one per model, however small and however near; those of downloads stay.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        encoder, found = kind.from_pretrained(
            path, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    finally:
        if shown:
            logging.enable_progress_bar()
    if lacking := _lacking(encoder, set(found["missing_keys"])):
        raise ConfigError(
            f"{path} lacks weights of its text encoder, which would be random numbers "
            f"({lacking[0]}{f' and {len(lacking) - 1} more' if lacking[1:] else ''}): copy it again"
        )
    return frozen(encoder).to(device)


def _lacking(network: nn.Module, missing: set[str]) -> list[str]:
    """The weights that a file had not; those that share their memory with one it had are there."""
    weights = dict(network.named_parameters(remove_duplicate=False))
    there = {weight.data_ptr() for name, weight in weights.items() if name not in missing}
    return sorted(n for n in missing if n in weights and weights[n].data_ptr() not in there)


@contextmanager
def precision(config: ModelConfig, device: torch.device) -> Iterator[None]:
    """Compute bf16 products over float32 inputs and LoRA weights; plain arithmetic for float32.

    What backward needs is kept where the settings say.
    """
    mixed = is_mixed(config)
    whole = torch.autocast(device.type, getattr(torch, config.dtype)) if mixed else nullcontext()
    with whole, boundaries(config, device):
        yield


def is_mixed(config: ModelConfig) -> bool:
    """Whether a network takes float32 and autocast finds the type of every operation."""
    return config.autocast and config.dtype != "float32"


def taken(x: Tensor, config: ModelConfig) -> Tensor:
    """A network's input in the type that it takes."""
    if is_mixed(config) or config.dtype == "float32":
        return x
    return x.to(getattr(torch, config.dtype))


def at_least_single(v: Tensor, x_t: Tensor) -> Tensor:
    """A velocity in float32, or in float64 where the noisy latents are."""
    return v.to(torch.promote_types(x_t.dtype, torch.float32))
