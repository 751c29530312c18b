"""The sections of a run's configuration: every setting, its unit and its rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..family import family_of, is_embedded, registry


class Section(BaseModel):
    """Frozen, and strict about names and numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class ModelConfig(Section):
    """Which base model, and how it is run."""

    family: str = "flux"
    """Model family: a folder of `models/`, such as flux and z_image (pictures) or wan (clips)."""
    path: str = "black-forest-labs/FLUX.1-dev"
    """Hub id, diffusers folder, or a transformer's .safetensors; `world` is the embedded base.

    Of Wan's two experts either file: the other lies beside it, with `low` for `high` in its name.
    """
    components: str | None = None
    """For a single file: hub id or folder with the text encoders, tokenizers and VAE."""
    revision: str | None = None
    """Hub revision (branch, tag or commit)."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the frozen weights and of the matrix products. LoRA, losses and EMA are float32.

    `auto`: bfloat16 where the GPU or CPU computes it in hardware, else float32.
    """
    autocast: bool = True
    """In bfloat16: norms, q and k in float32, as PyTorch's autocast has them.

    False: in bfloat16 too, as diffusers and ComfyUI compute. Less memory and traffic.
    """
    attention: Literal["auto", "math", "efficient", "flash", "cudnn"] = "auto"
    """PyTorch's kernel for attention, of those with a backward; `auto` lets PyTorch choose."""
    storage: Literal["bf16", "fp8", "int8", "nf4"] = "bf16"
    """How weights of the blocks are stored: as they compute, in 8 bits (int8: torchao), or in 4."""
    placement: Literal["whole", "streamed", "sharded"] = "whole"
    """Where weights are: on each GPU, in main memory until needed, or shared among the GPUs."""
    text_len: int = Field(256, ge=8, le=512)
    """Tokens of a text. ComfyUI pads FLUX's to 256 and padding attends: keep 256 for FLUX.1-dev."""
    reference_mode: Literal["index", "shared"] = "index"
    """Positions of the source: its own first axis (Kontext, Z-Image) or the target's (Wan, B.2)."""
    gradient_checkpointing: bool = True
    """Recompute blocks in backward (non-reentrant): less memory, a third more time per gradient."""
    checkpointed_blocks: float = Field(1.0, gt=0, le=1)
    """Share of the blocks that do so; the others keep all they compute."""
    keep_attention: bool = False
    """They keep the results of attention: 7 % of a Wan's step, for one more boundary each."""
    boundaries_on_cpu: bool = False
    """What is kept between checkpointed blocks waits in main memory: for clips, some 10 GB."""
    compile: bool = False
    """Compile the repeated blocks: a minute at start, then faster."""

    @field_validator("family")
    @classmethod
    def _known(cls, family: str) -> str:
        return family_of(family).name

    @model_validator(mode="after")
    def _of_the_family(self) -> ModelConfig:
        known = family_of(self.family).reference_modes
        if self.reference_mode not in known:
            raise ValueError(
                f"reference_mode is {self.reference_mode!r}, which family {self.family!r} does not "
                f"know: set model.reference_mode to {' or '.join(map(repr, known))}"
            )
        return self

    @model_validator(mode="after")
    def _checkpointed(self) -> ModelConfig:
        if self.boundaries_on_cpu and not (
            self.gradient_checkpointing and self.checkpointed_blocks == 1
        ):
            raise ValueError(
                "boundaries_on_cpu would send all that blocks keep to main memory: it needs "
                "model.gradient_checkpointing=true and model.checkpointed_blocks=1"
            )
        return self

    @model_validator(mode="after")
    def _as_stored(self) -> ModelConfig:
        if (where := self.placement) != "whole" and self.storage != "bf16":
            raise ValueError(
                f"placement {where!r} takes no storage {self.storage!r}: set model.storage=bf16"
            )
        if self.compile and self.storage == "fp8":
            raise ValueError(
                "storage fp8 changes the type of weights in every forward, which compile=true "
                "cannot follow: set model.compile=false, or model.storage to bf16, int8 or nf4"
            )
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether the base is one of the small ones that ship with ByG."""
        return is_embedded(self.path)


class GuidanceConfig(Section):
    """Values of the guidance embedding of distilled models; null for models without one."""

    train: float | None = 1.0
    """For the editor in training and in its rollout."""
    prior: float | None = 1.0
    """For the frozen base of section 4.2."""
    sample: float | None = 2.5
    """For samples, `edit` and, through the LoRA's metadata, ComfyUI."""


class DataConfig(Section):
    """Where items come from and how they are brought to size."""

    path: Path | None = None
    """Folder with metadata.jsonl, or with one folder per style."""
    resolution: int = Field(512, ge=16)
    """Buckets have about resolution x resolution pixels."""
    frames: int = Field(1, ge=1)
    """Frames of a training clip, 4k + 1 for Wan; 1: pictures."""
    fps: float = Field(16, gt=0)
    """Clips are resampled to so many frames a second: what the model was trained at."""
    extraction: Literal["head", "uniform", "chunk"] = "head"
    """Which frames of a longer clip: the first, those in the middle, or one segment after another.

    `uniform` takes one segment from the middle, or `segments` of them; `chunk` makes every segment
    an item.
    """
    segments: int = Field(1, ge=1)
    """Segments per clip with `uniform`, evenly spaced; fewer where the clip is too short."""
    buckets: bool = True
    """Keep aspect ratios (buckets); false: centre-crop to a square."""
    max_aspect: float = Field(2.0, ge=1)
    """Longest bucket side over shortest."""
    on_bad_item: Literal["stop", "drop"] = "stop"
    """Stop with the whole list of unusable items, or train without them and write the list."""
    styles: Path | None = None
    """styles.toml, templates for style folders; null: the data folder's own, or the built-in."""
    cache: Path | None = None
    """Folder of latents and embeddings; null: <data>/.byg_cache."""
    holdout: int = Field(4, ge=0)
    """Items kept out of training for samples and alarms when no item is marked split = test."""


class RolloutConfig(Section):
    """How the EMA editor dreams its targets."""

    steps: int = Field(10, ge=1)
    """Evaluations n from noise to data."""
    order: Literal[1, 2] = 1
    """Of the solver: 1 is Euler (Algorithm 1), 2 Adams-Bashforth, which needs half the steps."""
    times: int = Field(1, ge=1)
    """Times t that one rollout serves; 1 is Algorithm 1.

    With K > 1 the rows of a step are K times t of each item, all on the path of its one rollout,
    with the same noise: each row as in Algorithm 1, but items per step are K times fewer. K divides
    `train.batch_size`, or is a multiple of it.
    """
    shift: float = Field(1.0, gt=0)
    """Shift of the rollout's time grid; 1 = Algorithm 1's uniform grid."""


class TimeConfig(Section):
    """How t is drawn."""

    distribution: Literal["uniform", "logit_normal"] = "uniform"
    """Images U(0, 1) (Algorithm 1); video logit-normal (B.2)."""
    shift: float = Field(1.0, gt=0)
    """Shift towards noise; video 12."""


class WarmupConfig(Section):
    """Identity-only steps before the method starts; counted in optimiser steps."""

    min_steps: int = Field(200, ge=0)
    """At least so many."""
    until: float | None = Field(None, gt=0)
    """Then on until the running identity loss is below this; null: stop at min_steps."""
    max_steps: int = Field(1000, ge=0)
    """At most so many; past it the run goes on and warns."""
    lora: str | None = None
    """A LoRA file to start from, instead of zeros; `world` is the shipped warm-up LoRA."""

    @model_validator(mode="after")
    def _ordered(self) -> WarmupConfig:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps {self.max_steps} is below min_steps {self.min_steps}")
        return self


Moment = Annotated[float, Field(ge=0, lt=1)]


class LoraSettings(Section):
    """The adapter."""

    rank: int = Field(64, ge=1)
    """Rank r."""
    alpha: float | None = Field(None, gt=0)
    """Scale is alpha / rank; null: alpha = rank, scale 1. The scale is baked into the file."""
    targets: list[str] | None = None
    """Module names or name endings to adapt; null: all attention and MLP projections.

    `usual` means these too, and a family may know words for more, as Z-Image `noise_refiner`.
    """


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit needs the bitsandbytes package and CUDA."""
    lr: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decoupled weight decay."""
    betas: tuple[Moment, Moment] = (0.9, 0.999)
    """Adam's moments."""
    warmup: int = Field(0, ge=0)
    """Optimiser steps of linear warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    skip_above: float | None = Field(None, gt=0)
    """A step with a gradient above this norm, or one that is no number, is not taken; null: the
    latter ends the run."""


class TrainSection(Section):
    """How long, how much at once, how often things are written."""

    expert: str = "both"
    """Of a base with two experts: train both, or one (`high`, `low`) and leave the other alone."""
    steps: int = Field(30_000, ge=1)
    """Optimiser steps after the identity warm-up."""
    batch_size: int = Field(1, ge=1)
    """Rows per forward pass: items, or with `rollout.times` the times of one."""
    global_batch: int = Field(8, ge=1)
    """Rows per optimiser step; gradient accumulation fills it."""
    sample_every: int = Field(500, ge=0)
    """Steps between sample grids; 0: only at the start and at the end."""
    sample_first: bool = True
    """Also before the first step, to see where the run starts: for clips, many minutes."""
    weigh_losses: bool = True
    """Before the first step, 64 forwards of the base: do the weights ask for text-to-image?"""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints and LoRA files."""
    checkpoint_minutes: float | None = Field(60, gt=0)
    """A checkpoint also after so many minutes without one; null: by steps alone."""
    keep_checkpoints: int = Field(2, ge=1)
    """Older checkpoints (not LoRA files) are deleted."""
    check_gradients_every: int = Field(100, ge=1)
    """Steps between zero-gradient checks of every loss term."""
    wandb: bool = False
    """Log to Weights & Biases too (needs the wandb package)."""

    @model_validator(mode="after")
    def _whole(self) -> TrainSection:
        if self.global_batch % self.batch_size:
            raise ValueError(
                f"global_batch {self.global_batch} is no multiple of batch_size {self.batch_size}"
            )
        return self

    def trains(self, expert: str) -> bool:
        """Whether an expert gets a LoRA."""
        return self.expert in ("both", expert)


class SampleConfig(Section):
    """How edits are sampled in grids, by `edit`, and (through metadata) in ComfyUI."""

    sampler: Literal["euler", "unipc", "renoise"] = "euler"
    """Euler; UniPC of order 2, Wan's own; `renoise` of few-step editors: guess, noise, guess."""
    steps: int = Field(20, ge=1)
    """Sampling steps."""
    cfg: float = Field(1.0, ge=1)
    """Classifier-free guidance against `negative`; 1: none, and half the time."""
    cfg_low: float | None = Field(None, ge=1)
    """The same for the low-noise expert of a pair; null: as `cfg`."""
    negative: str = ""
    """What classifier-free guidance leads away from."""
    shift: float | str = "flux"
    """Shift of the sampling grid; `flux`: FLUX.1-dev's resolution-dependent mu."""
    count: int = Field(4, ge=1)
    """Held-out items in a sample grid."""

    @field_validator("shift")
    @classmethod
    def _of_a_family(cls, shift: float | str) -> float | str:
        own = [family.name for family in registry().values() if family.size_shift]
        if isinstance(shift, str) and shift not in own:
            raise ValueError(f"wanted a number, or a family's own: {', '.join(own)}")
        if not isinstance(shift, str) and shift <= 0:
            raise ValueError("wanted a number above 0")
        return shift
