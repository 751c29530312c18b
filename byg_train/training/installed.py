"""What is installed beside the trainer: packages and their versions, a ComfyUI, what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import PRESETS, build_config, load_preset, read_toml
from ..models.locate import local_folder

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
DISTRIBUTION = "byg-train"
# Extras that people install; the others are for building and testing.
EXTRAS = ("train", "lowvram", "vlm", "eval")
# What a bug may depend on.
PACKAGES = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "huggingface_hub",
    "tokenizers", "numpy", "pillow", "av", "pydantic", "typer", "bitsandbytes", "torchao",
    "xformers",
)  # fmt: skip


def versions() -> dict[str, str | None]:
    """Python's, this project's, and those of the packages that matter; None: not installed."""
    from .. import __version__

    own = {"python": platform.python_version(), "byg_train": __version__}
    return {**own, **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------- what is missing


def missing() -> dict[str, Any]:
    """What some commands need and is not here -> why, and the command that brings it."""
    needs: dict[str, Any] = {}
    for extra, lacking in _lacking_packages().items():
        what = f'".[{extra}]"' if PROJECT.is_file() else f'"{DISTRIBUTION}[{extra}]"'
        needs[f"packages of {extra}"] = {
            "lacking": lacking,
            "command": f"pip install {'-e ' if PROJECT.is_file() else ''}{what}",
        }
    if _version("torch") and _gpu_without_cuda():
        needs["CUDA in PyTorch"] = {
            "why": "there is an NVIDIA driver, and this PyTorch was built for the CPU",
            "command": "pip install --force-reinstall torch --index-url "
            "https://download.pytorch.org/whl/cu128",
        }
    if _version("huggingface_hub") and not _logged_in() and (bases := _bases_elsewhere()):
        needs["Hugging Face login"] = {
            "why": f"not here yet: {', '.join(bases)}; where one is behind a licence, accept it on "
            "its page at https://huggingface.co",
            "command": "hf auth login",
        }
    return needs


def _bases_elsewhere() -> list[str]:
    """The presets' bases that the hub would send."""
    bases = (build_config(load_preset(name)).model for name in PRESETS)
    absent = (m.path for m in bases if not (m.is_embedded or local_folder(m, m.path)))
    return list(dict.fromkeys(absent))


def _lacking_packages() -> dict[str, list[str]]:
    """Extra -> its packages that are absent or too old, as `av (wanted >=15, found 14.0)`."""
    packages: dict[str, list[str]] = {}
    for extra, wanted in _requirements():
        if extra not in EXTRAS or wanted.name == DISTRIBUTION:
            continue
        have = _version(wanted.name)
        if have is None:
            packages.setdefault(extra, []).append(wanted.name)
        elif not wanted.specifier.contains(have, prereleases=True):
            word = f"{wanted.name} (wanted {wanted.specifier}, found {have})"
            packages.setdefault(extra, []).append(word)
    return packages


def _requirements() -> Iterator[tuple[str, Requirement]]:
    """(extra, package), of this checkout's project file, or of what was installed."""
    from packaging.requirements import Requirement

    if PROJECT.is_file():
        extras = read_toml(PROJECT)["project"]["optional-dependencies"]
        written = [(extra, Requirement(text)) for extra, texts in extras.items() for text in texts]
        yield from (pair for pair in written if not pair[1].marker or pair[1].marker.evaluate())
        return
    for text in metadata.requires(DISTRIBUTION) or []:
        wanted = Requirement(text)
        for extra in EXTRAS:
            if wanted.marker and wanted.marker.evaluate({"extra": extra}):
                yield extra, wanted


def _gpu_without_cuda() -> bool:
    import torch

    return (
        torch.version.cuda is None
        and torch.version.hip is None
        and bool(shutil.which("nvidia-smi"))
    )


def _logged_in() -> bool:
    """Whether a token is stored; it is neither sent nor shown."""
    from huggingface_hub import get_token

    return get_token() is not None


# ---------------------------------------------------------------- ComfyUI


def comfyui() -> dict[str, Any]:
    """The ComfyUI around this project or the working folder, or that COMFYUI_PATH names."""
    folder = next(filter(_is_comfyui, _places()), None)
    if folder is None:
        return {"found": False, "looked": "around this package and here, in ~, and COMFYUI_PATH"}
    packs = [p.parent for p in folder.glob("custom_nodes/*/byg_train") if p.is_dir()]
    return {
        "found": True,
        "folder": str(folder),
        "version": _comfyui_version(folder),
        "ByG nodes": str(packs[0]) if packs else "not in its custom_nodes",
    }


def _places() -> Iterator[Path]:
    if named := os.environ.get("COMFYUI_PATH"):
        yield Path(named)
    # An unresolved path too: custom_nodes may hold a link to a checkout elsewhere.
    for start in (Path(__file__).absolute(), Path(__file__).resolve(), Path.cwd() / "here"):
        for folder in start.parents:
            yield folder
            yield folder / "ComfyUI"
    yield Path.home() / "ComfyUI"


def _is_comfyui(folder: Path) -> bool:
    return (folder / "comfy" / "sd.py").is_file() and (folder / "nodes.py").is_file()


def _comfyui_version(folder: Path) -> str | None:
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return match and match[1]
