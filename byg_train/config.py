"""What a run is: every setting, its unit and its rule. Presets are TOML files of these sections."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESET_FOLDER = Path(__file__).parent / "presets"


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which, what was found and what is known."""


class Section(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(Section):
    """Which base model, and how it is run."""

    family: Literal["flux", "wan"] = "flux"
    """Model family: FLUX.1 (pictures) or Wan (clips)."""
    path: str = "black-forest-labs/FLUX.1-dev"
    """Hub id, diffusers folder, or a transformer's .safetensors; `world` is the embedded base.

    Of Wan's two experts either file: the other lies beside it, with `low` for `high` in its name.
    """
    components: str | None = None
    """For a single file: hub id or folder with the text encoders, tokenizers and VAE."""
    revision: str | None = None
    """Hub revision (branch, tag or commit)."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type of the frozen weights and of the matrix products. LoRA, losses and EMA are float32."""
    text_len: int = Field(256, ge=8, le=512)
    """T5 tokens. ComfyUI pads FLUX prompts to 256 and padding attends: keep 256 for FLUX.1-dev."""
    reference_mode: Literal["index", "shared"] = "index"
    """Positions of the source: its own first axis (Kontext's index 1) or those of the target.

    Wan knows the latter alone (B.2).
    """
    gradient_checkpointing: bool = True
    """Recompute blocks in backward (non-reentrant): less memory, a third more time per gradient."""
    compile: bool = False
    """Compile the repeated blocks: a minute at start, then faster."""

    @model_validator(mode="after")
    def _of_the_family(self) -> ModelConfig:
        if self.family == "wan" and self.reference_mode != "shared":
            raise ValueError(
                f"reference_mode is {self.reference_mode!r}, which family 'wan' does not know: set "
                f"model.reference_mode to 'shared'"
            )
        return self


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


class MethodConfig(Section):
    """The weights of Eq. 5 and what surrounds them."""

    lambda_cycle: float = Field(1.0, ge=0)
    """Weight of L_cycle (Eq. 3)."""
    lambda_prior: float = Field(1.0, ge=0)
    """Weight of both prior terms (Eq. 2)."""
    lambda_id: float = Field(0.2, ge=0)
    """Weight of L_id inside a full step."""
    alpha: float = Field(0.1, ge=0)
    """Weight of L_MSE inside the prior; the paper gives no value."""
    prior_guidance: float = Field(1.0, ge=0)
    """Classifier-free guidance of the prior against the empty caption; 1 = none, one pass."""
    identity_probability: float = Field(0.15, ge=0, le=1)
    """Share of identity-only steps."""
    ema_decay: float | None = Field(0.999, gt=0, lt=1)
    """Decay of G_EMA per optimiser step, float32; null: a stop-gradient copy (App. C.1)."""


class RolloutConfig(Section):
    """How the EMA editor dreams its targets."""

    steps: int = Field(10, ge=1)
    """Euler steps n from noise to data."""
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


class LoraSettings(Section):
    """The adapter."""

    rank: int = Field(64, ge=1)
    """Rank r."""
    alpha: float | None = Field(None, gt=0)
    """Scale is alpha / rank; null: alpha = rank, scale 1. The scale is baked into the file."""
    targets: list[str] | None = None
    """Module names or name endings to adapt; null: all attention and MLP projections."""


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit needs the bitsandbytes package and CUDA."""
    lr: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moments."""
    warmup: int = Field(0, ge=0)
    """Optimiser steps of linear warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""


class TrainSection(Section):
    """How long, how much at once, how often things are written."""

    steps: int = Field(30_000, ge=1)
    """Optimiser steps after the identity warm-up."""
    batch_size: int = Field(1, ge=1)
    """Items per forward pass."""
    global_batch: int = Field(8, ge=1)
    """Items per optimiser step; gradient accumulation fills it."""
    sample_every: int = Field(500, ge=0)
    """Steps between sample grids; 0: only at the start and at the end."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints and LoRA files."""
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

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimiser step."""
        return self.global_batch // self.batch_size


class SampleConfig(Section):
    """How edits are sampled in grids, by `edit`, and (through metadata) in ComfyUI."""

    steps: int = Field(20, ge=1)
    """Euler steps."""
    shift: float | Literal["flux"] = "flux"
    """Shift of the sampling grid; `flux`: FLUX.1-dev's resolution-dependent mu."""
    count: int = Field(4, ge=1)
    """Held-out items in a sample grid."""


class TrainConfig(Section):
    """One run."""

    preset: str = "custom"
    """Name of the preset this came from."""
    description: str = ""
    """What the preset is for, in a sentence."""
    source: str = ""
    """Where its numbers come from."""
    seed: int = 0
    """Seeds everything: weights, order, noise, times."""
    model: ModelConfig = ModelConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    data: DataConfig = DataConfig()
    method: MethodConfig = MethodConfig()
    rollout: RolloutConfig = RolloutConfig()
    time: TimeConfig = TimeConfig()
    warmup: WarmupConfig = WarmupConfig()
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainSection = TrainSection()
    sample: SampleConfig = SampleConfig()


PRESETS = {p.stem: p for p in sorted(PRESET_FOLDER.glob("*.toml"))}


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def load_preset(name: str) -> dict[str, Any]:
    """The tables of a preset file."""
    if name not in PRESETS:
        raise ConfigError(
            f"unknown preset {name!r}{nearest(name, list(PRESETS))} (known: {', '.join(PRESETS)})"
        )
    return {**tomllib.loads(PRESETS[name].read_text(encoding="utf-8")), "preset": name}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a user's configuration file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except OSError as error:  # a folder, or a file that may not be read
        raise ConfigError(f"configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (at byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def merged(tables: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `tables`, section by section."""
    result = dict(tables)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def parse_set(assignment: str) -> dict[str, Any]:
    """`section.key=value` -> nested tables; the value is TOML, or a bare string, or null."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {assignment!r}: wanted section.key=value")
    text = text.strip()
    try:
        value = None if text in ("null", "none", "None") else tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return value


def build_config(tables: dict[str, Any]) -> TrainConfig:
    """Validate; a wrong or unknown setting is named with what is known beside it."""
    try:
        return TrainConfig.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        found = "" if isinstance(error["input"], dict) else f" (found {error['input']!r})"
        return f"{where}: {error['msg']}{found}"
    model: Any = TrainConfig
    for part in error["loc"][:-1]:
        model = model.model_fields[part].annotation
    known = list(model.model_fields)
    hint = nearest(str(error["loc"][-1]), known)
    return f"unknown setting {where}{hint} (known: {', '.join(known)})"
