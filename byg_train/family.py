"""What a model family must say of itself: one record, filled in by `models/<family>/record.py`.

Everything else asks the record and never the name, so a new family is a new folder. Records hold
data and functions that are imported when they are first called: the command line and ComfyUI's
nodes read them without loading torch or diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

# The name of a network that has no others beside it.
ALONE = "transformer"
# `model.path` of the small bases that ship with ByG, and where they are.
EMBEDDED = "world"
WORLD = Path(__file__).parent / EMBEDDED
MODELS = Path(__file__).parent / "models"
# The node pack's workflows, beside the package where the pack is installed.
EXAMPLES = Path(__file__).parents[1] / "workflows"


@dataclass(frozen=True)
class Bases:
    """A family's base models. Each function takes `config.ModelConfig`; `load` alone loads one."""

    load: Callable[..., Any]
    """(config, device) -> its `models.backbone.Backbone`."""
    resolve: Callable[..., Any]
    """(config) -> the file or folder of `model.path`, or a hub id that can be fetched."""
    pixel_multiple: Callable[..., int]
    """(config) -> what pixel sizes are multiples of."""
    token_counts: Callable[..., tuple[int, int]]
    """(config, width, height, frames) -> tokens of a text, and of a picture or clip."""
    network: Callable[..., Any]
    """(config) -> its `models.networks.Network`, the sizes that the plan counts with."""
    boundary: Callable[..., float | None] = lambda config: None
    """(config) -> the time at which two experts meet; None of one network."""
    download_size: Callable[..., float | None] = lambda name, *, transformer: None
    """(hub id, transformer=bool) -> bytes to download; None: not known."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Parts of a diffusers folder beside the transformers -> whether their weights are needed."""
    example: str = ""
    """A hub id that has them all, for messages."""

    @classmethod
    def of(
        cls, package: str, backbone: str, files: str, *, parts: Mapping[str, bool], example: str
    ) -> Bases:
        """A family's own `backbone` and `network` modules, and a module `files` of it or of all."""
        later = partial(Later, package)
        return cls(
            load=later(f"backbone:{backbone}.load"),
            network=later("network:network"),
            download_size=later("network:download_size"),
            resolve=later(f"{files}:resolve"),
            pixel_multiple=later(f"{files}:pixel_multiple"),
            token_counts=later(f"{files}:token_counts"),
            boundary=later(f"{files}:boundary"),
            parts=parts,
            example=example,
        )


@dataclass(frozen=True)
class LoraFormat:
    """The modules that a family's LoRA adapts, and how its file is written for ComfyUI."""

    transformer: str
    """The networks' class in diffusers."""
    targets: re.Pattern[str]
    """What `lora.targets = null` adapts: full names of attention and MLP projections."""
    width_of: str
    """The end of the name of a module whose input is as wide as the network."""
    prefix: str
    """Of every key in the file."""
    architecture: str
    """For LoRA managers: `modelspec.architecture` without its `/lora`."""
    base_version: str
    """For LoRA managers: `ss_base_model_version`."""
    older: Mapping[re.Pattern[str], str] = field(default_factory=dict)
    """Bases by their names -> what they say in place of both, where a family has generations."""
    more_targets: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    """Words that `lora.targets` may hold as well -> the modules that they mean, by full names."""
    names: Mapping[str, str] = field(default_factory=dict)
    """diffusers' name of a module, in a block or outside -> ComfyUI's, where the two differ."""


@dataclass(frozen=True)
class Usual:
    """What is meant where nothing is said."""

    preset: str
    """Edits of any kind; also how the bare base is sampled."""
    style_preset: str
    """Style folders."""
    text_len: int
    multiple: int
    """Pixels."""
    frames: int = 1
    fps: float = 16.0
    seconds: int = 0
    """The longest clip that the bases were made for."""


@dataclass(frozen=True)
class Embedded:
    """The small base of a family that ships with ByG, and what was made for it."""

    folder: Path
    warmup: Path
    """The LoRA after its identity warm-up; of experts the name that their files share."""
    preset: str
    """The demo."""
    media: str
    """What ByG Tiny World calls it."""
    example: Path
    """The node pack's workflow for it, which is there wherever its nodes are."""
    few_steps: Path
    """The same for LoRAs that edit in few steps."""
    shared: Mapping[str, Path] = field(default_factory=dict)
    """Parts that it does not hold itself -> the base that they are read from."""
    more_presets: tuple[str, ...] = ()
    """Others of this base that draw their own data."""


@dataclass(frozen=True)
class Graph:
    """A ComfyUI workflow to fill in. Nodes are called by their title, or their type without one."""

    template: Path
    widgets: Mapping[str, Mapping[str, Any]]
    """Node -> widget -> its value, or a function of the template's value."""
    bypassed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publishing:
    """What an exported LoRA's card and workflow say of the family.

    `info` is a `models.lora_file.LoraInfo`, `files` are the names of the LoRA's files.
    """

    pipeline: str
    """The class in diffusers that loads the LoRA."""
    licence: Callable[..., tuple[dict[str, str], str] | None]
    """(base) -> front matter and a sentence; None: not known."""
    graph: Callable[..., Graph | None]
    """(info, name, files) -> the workflow; None where nodes cannot run the base, or the LoRA."""
    usage: Callable[..., str]
    """(info, name, has_workflow) -> what follows "put the files into `models/loras`"."""

    @classmethod
    def of(cls, package: str, pipeline: str) -> Publishing:
        """The functions of a family's own `publish` module."""
        return cls(
            pipeline,
            licence=Later(package, "publish:licence"),
            graph=Later(package, "publish:graph"),
            usage=Later(package, "publish:usage"),
        )


@dataclass(frozen=True)
class Family:
    """A model family."""

    name: str
    """In `model.family` and in a LoRA's metadata."""
    title: str
    """In sentences."""
    is_video: bool
    """Clips, or pictures."""
    reference_modes: Mapping[str, str]
    """The values that `model.reference_mode` may have -> in words."""
    text_encoder: str
    """Its short name."""
    tokenizer: str
    """The part of a base with the tokenizer that cuts texts at `model.text_len`."""
    usual: Usual
    bases: Bases
    lora: LoraFormat
    publishing: Publishing
    chat_tokens: int = 0
    """Tokens that its chat template puts around a text."""
    pads_texts: bool = True
    """Whether every text has `text_len` tokens; else as many as its words, and that at most."""
    experts: Mapping[str, str] = field(default_factory=lambda: {ALONE: ""})
    """The names of its networks, where it can have several, from noise to data -> what the name of
    their LoRA's file ends with."""
    frame_group: int = 1
    """Frames of a latent frame behind the first: clips have `frame_group * k + 1` frames."""
    has_guidance: bool = False
    """Whether its models may take guidance as an input (`guidance.*`)."""
    flowedit: tuple[int, int, float, float] | None = None
    """FlowEdit's numbers for it: steps, n_max, guidance of source and target; None: none known.

    Guidance is the value of the embedding, or classifier-free where there is none.
    """
    own_shift: str | None = None
    """In words: the sampling shift that follows the size, `sample.shift = "<name>"`, if any."""
    size_shift: Callable[[int], float] | None = None
    """(tokens of a picture) -> that shift."""
    embedded: Embedded | None = None

    def partner_of(self, expert: str | None) -> str | None:
        """The other expert of a pair; None where there is no pair."""
        others = [name for name in self.experts if name != expert]
        return others[0] if expert in self.experts and others else None


@dataclass(frozen=True)
class Later:
    """A function that is imported when it is first called: `module:name` of a package."""

    package: str
    target: str

    def function(self) -> Callable[..., Any]:
        """The function itself."""
        module, name = self.target.split(":")
        return attrgetter(name)(import_module(f".{module}", self.package))

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function()(*args, **options)


# ---------------------------------------------------------------- the registry


@cache
def registry() -> dict[str, Family]:
    """Name -> family: at first the `FAMILY` of every `models/<family>/record.py`."""
    names = sorted(record.parent.name for record in MODELS.glob("*/record.py"))
    records = (import_module(f".models.{name}.record", __package__) for name in names)
    return {record.FAMILY.name: record.FAMILY for record in records}


def register(family: Family) -> None:
    """Make another family known; one of the same name gives way to it."""
    registry()[family.name] = family


def family_of(name: str) -> Family:
    """A family by its name; ValueError for an unknown one."""
    known = registry()
    if name not in known:
        raise ValueError(f"model family {name!r} is unknown; known: {', '.join(known)}")
    return known[name]


def usual_family(*, is_video: bool) -> Family:
    """The one that is meant by pictures, or clips, alone."""
    return next(family for family in registry().values() if family.is_video == is_video)


def file_endings() -> dict[str, str]:
    """Map every expert of every family to what the name of its LoRA's file ends with."""
    return {
        expert: ending
        for family in registry().values()
        for expert, ending in family.experts.items()
    }


def titles(which: Callable[[Family], bool]) -> str:
    """The families for which something holds, for a sentence."""
    return ", ".join(family.title for family in registry().values() if which(family))


def demos() -> set[str]:
    """The presets that train on what the embedded world draws."""
    bases = [family.embedded for family in registry().values() if family.embedded]
    return {preset for base in bases for preset in (base.preset, *base.more_presets)}


def part_folder(base: Path, part: str) -> Path:
    """Where a part of a base lies: in its folder, or in that of the one that shares it."""
    return shared_parts(base).get(part, base / part)


def shared_parts(base: Path) -> dict[str, Path]:
    """Part -> its folder, of what an embedded base reads from another."""
    ours = (family.embedded for family in registry().values() if family.embedded)
    whole = next((own for own in ours if own.folder == base.absolute()), None)
    return {part: home / part for part, home in whole.shared.items()} if whole else {}


def is_embedded(base: str | None) -> bool:
    """Whether a base is one of the small ones that ship with ByG."""
    return base == EMBEDDED
