"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ..config import ConfigError

Device = Annotated[str, Option(help="cpu, cuda, or auto: cuda where there is one.")]
Assignments = Annotated[
    list[str] | None,
    Option("--set", metavar="SECTION.KEY=VALUE", help="Change any setting; repeatable."),
]
Profile = Annotated[
    str | None,
    Option(
        help="Settings over the preset's: fast (half the forwards a step), or four_steps (an "
        "editor of four steps from --init LORA)."
    ),
]
DataFolder = Annotated[Path, Argument(metavar="DIR", help="The data folder.")]
Templates = Annotated[
    Path | None,
    Option("--styles", help="File with text templates; default: DIR/styles.toml if present."),
]
Preset = Annotated[
    str | None, Option(help="Preset that will be trained; sets text length and base model.")
]
BaseModel = Annotated[
    str | None, Option("--model", help="Base model: hub id, folder, .safetensors file, or world.")
]
Drop = Annotated[bool, Option("--drop", help="Leave out items that cannot be used, and list them.")]
Force = Annotated[
    bool, Option("--force", help="Replace an existing metadata.jsonl and keep it as .bak.")
]
Sources = Annotated[
    Path, Option(help="Folder of what was edited, with metadata.jsonl as `evaluate fetch` writes.")
]
Components = Annotated[
    str | None,
    Option(help="Hub id or folder of VAE and text encoders, for a single-file base model."),
]
EditModelName = Annotated[
    str | None, Option("--model", help="Base model; default: the one that the LoRA was trained on.")
]
Server = Annotated[
    str | None,
    Option(
        "--endpoint", help="URL of an OpenAI-compatible server, such as http://localhost:8000/v1."
    ),
]
LocalVlm = Annotated[
    str | None,
    Option("--vlm", help="Hub id or folder of a local model (Qwen3-VL), instead of a server."),
]
KeyVariable = Annotated[str, Option(help="Environment variable that holds the API key.")]
Concurrency = Annotated[int, Option(min=1, help="Number of parallel questions.")]
MaxTokens = Annotated[int, Option(min=1, help="Maximum tokens of one answer, thoughts included.")]
Instruction = Annotated[
    str | None, Option(help="Instruction of every edit, instead of a metadata.jsonl.")
]


def names_of(text: str) -> list[str]:
    """Split a comma-separated list: `a, b` -> ["a", "b"]."""
    return [name.strip() for name in text.split(",") if name.strip()]


Check = Callable[[typer.CallbackParam, float | None], float | None]


def at_least(least: float) -> Check:
    """Check that an option, if given, has a finite value of at least `least`."""
    return _checked(lambda value: value >= least, f"{least} or more")


def above(bound: float) -> Check:
    """Check that an option, if given, has a finite value above `bound`."""
    return _checked(lambda value: value > bound, f"a number above {bound}")


def _checked(fits: Callable[[float], bool], wanted: str) -> Check:
    def check(option: typer.CallbackParam, value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and fits(value)):
            finite_one = wanted if math.isfinite(value) else "a finite number"
            raise ConfigError(f"{option.opts[0]} {value}: wanted {finite_one}")
        return value

    return check


finite = _checked(lambda value: True, "a finite number")


def resolve_device(device: str) -> str:
    """`auto` -> cuda where there is one, else cpu."""
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {device}: wanted cpu, cuda or auto")
    import torch

    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device; try --device cpu")
    if device != "auto":
        return device
    return "cuda" if cuda else "cpu"
