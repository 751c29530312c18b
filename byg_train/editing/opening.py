"""A LoRA and its base, read and checked as far as this goes without loading the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from ..config import ConfigError, LoraSettings, ModelConfig, build_config, load_preset, merged
from ..family import ALONE, family_of, file_endings, is_embedded
from ..models.backbone import Backbone, load_backbone, pixel_multiple
from ..models.configured_info import configured_info
from ..models.locate import told_family
from ..models.lora import LoraBank
from ..models.lora_file import LoraFile, LoraInfo, expert_path, read_lora
from ..models.lora_tensors import ranks_of
from ..models.networks import network, transformer_sizes
from .editor import Editor


class NoPartnerError(ConfigError):
    """Raised where one expert of a pair has a LoRA, and the other's file is not there."""


class EditModel(NamedTuple):
    """What an editor is loaded from: a LoRA, or none, and the base it is to run on."""

    path: Path  # the LoRA's file; without one, the base
    files: dict[str, LoraFile]  # expert -> its file; none of a bare base
    info: LoraInfo  # how it is sampled, and the sizes that it takes
    base: ModelConfig

    def sampled(self, wanted: Mapping[str, object]) -> EditModel:
        """Return this model with fields of its info as a person wants them; None changes nothing.

        A `cfg` alone holds for both experts.
        """
        given = {name: value for name, value in wanted.items() if value is not None}
        both = {"cfg_low": None} if "cfg" in given else {}
        return self._replace(info=replace(self.info, **both | given))

    def load(self, device: str, strength: float = 1.0) -> Editor:
        """Load the base and put the LoRA in; of strength 1 as trained, of 0 the bare base."""
        backbone = load_backbone(self.base, device)
        return Editor(backbone, attach(self, backbone, strength), self.info)


def open_lora(
    lora: Path,
    model: str | None,
    components: str | None = None,
    storage: str = "bf16",
    *,
    single_expert: bool = False,
) -> EditModel:
    """Read a LoRA and check it against its base; raises ConfigError where they do not fit.

    Args:
        lora: the file; of two experts either one, or their common name without the expert's ending.
        model: the base, and `components` of a single file; None: those that it was trained on.
        storage: how the base's weights are stored (`model.storage`).
        single_expert: the other expert has no LoRA, and runs without one and without the source.
    """
    of_experts = (expert_path(lora, expert) for expert in file_endings())
    path = lora if lora.exists() else next(filter(Path.exists, of_experts), lora)
    file, info = _read(path)
    files = {info.expert or ALONE: file}
    other = family_of(info.family).partner_of(info.expert)
    if other and not single_expert:
        files[other] = _partner(path, info, other)
    tables = {
        "family": info.family,
        "path": model or info.base,
        "components": components or info.components,
        # A revision is one of the names that it was recorded with.
        "revision": None if model or components else info.revision,
        "storage": storage,
        "text_len": info.text_len,
        "reference_mode": info.reference_mode,
    }
    opened = EditModel(path, files, info, build_config({"model": tables}).model)
    if why := wrong_width(file, opened.base):
        raise _misfit(opened, why)
    return opened


def open_base(model: str, components: str | None = None) -> EditModel:
    """A base without a LoRA, for baselines; it samples as its family's preset says.

    The family is what a folder tells, and the usual one where nothing is here yet. `components` are
    those of a single file.
    """
    family = told_family(model, components) or family_of(ModelConfig().family)
    name = family.embedded.preset if is_embedded(model) else family.usual.preset
    preset = load_preset(name)
    base = {"model": {"path": model, "components": components}}
    config = build_config(merged(preset, base))
    info = configured_info(config, pixel_multiple(config.model))
    return EditModel(Path(model), {}, info, config.model)


def _read(path: Path) -> tuple[LoraFile, LoraInfo]:
    try:
        file = read_lora(path)
    except ValueError as error:  # it names the file
        raise ConfigError(str(error)) from None
    try:
        return file, LoraInfo.from_metadata(file.metadata)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _partner(path: Path, info: LoraInfo, other: str) -> LoraFile:
    """The other file of a pair, which lies beside the one that was named."""
    mine, its_ending = (file_endings()[expert] for expert in (info.expert, other))
    alone = f"{path} edits with the {info.expert}-noise expert alone"
    if mine not in path.stem:
        raise ConfigError(
            f"{alone}, and its name does not tell that of the other file: call the two "
            f"NAME{mine}{path.suffix} and NAME{its_ending}{path.suffix}, in one folder"
        )
    partner = path.with_stem(its_ending.join(path.stem.rsplit(mine, 1)))
    if not partner.is_file():
        raise NoPartnerError(
            f"{alone}, and {partner.name} is not beside it: put both files of the pair into one "
            f"folder, or choose to edit with a single expert if only this one was trained"
        )
    file, its = _read(partner)
    if (its.family, its.expert, its.base) != (info.family, other, info.base):
        raise ConfigError(
            f"{path} and {partner.name} are no pair: the one is for the {info.expert}-noise "
            f"expert of {info.base}, the other for {its.expert or 'the one network'} of {its.base}"
        )
    return file


def wrong_width(file: LoraFile, model: ModelConfig) -> str | None:
    """Why a LoRA cannot fit a base by the width of its layers; None if it may fit."""
    if transformer_sizes(model) is None and _is_local(model.path):
        return None  # nobody knows what is there: whoever looks for it says more
    width = network(model).width
    inner = f"{family_of(model.family).lora.width_of}.lora_A.weight"
    for name, tensor in file.by_diffusers_names().items():
        if name.endswith(inner) and tensor.shape[1] != width:
            return f"its layers are {tensor.shape[1]} wide, the model's {width}"
    return None


def _is_local(base: str | Path) -> bool:
    """Whether a base's name is that of a place on this machine, and no hub id."""
    path = Path(base).expanduser()
    return path.is_absolute() or path.exists() or str(base).startswith(".")


def attach(model: EditModel, backbone: Backbone, strength: float) -> LoraBank:
    """Put the LoRA into the loaded base; raises ConfigError when it does not fit."""
    files = {expert: file.by_diffusers_names() for expert, file in model.files.items()}
    if unknown := files.keys() - backbone.experts.keys():
        has = " and ".join(backbone.experts)
        raise _misfit(model, f"for {' and '.join(sorted(unknown))}, and this base has {has}")
    if bare := backbone.experts.keys() - files.keys():
        backbone.without_lora = bare
    names = {name for tensors in files.values() for name in tensors}
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in names})
    # The rank of the tensors, not that of the metadata: other tools resize files, module by module.
    rank = max((ranks_of(tensors)[-1] for tensors in files.values()), default=1)
    settings = LoraSettings(rank=max(1, rank), targets=modules)
    try:
        experts = nn.ModuleDict({expert: backbone.experts[expert] for expert in files})
        bank = LoraBank(experts, settings, None, 0)
        for expert, tensors in files.items():
            scaled = {k: v.float() * strength if "lora_B" in k else v for k, v in tensors.items()}
            bank.load_tensors(expert, scaled)
    except ConfigError as error:
        raise _misfit(model, str(error)) from None
    return bank


def _misfit(model: EditModel, why: str) -> ConfigError:
    return ConfigError(
        f"{model.path} does not fit {model.base.path}: it was trained on {model.info.base} "
        f"({why}). Choose that base, or a LoRA of this one"
    )
