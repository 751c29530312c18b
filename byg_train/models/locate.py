"""Where a model's files are: a folder in diffusers layout, or the hub and its local cache.

Everything here happens before anything is loaded, so that a wrong name costs a second, not minutes.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ..config import ConfigError, ModelConfig
from ..family import EMBEDDED, Family, family_of, is_embedded, part_folder, registry, shared_parts
from ..text_files import read_text

# Which files of a part are wanted: never pickles, never the hub's own single-file copies.
SMALL = (".json", ".txt", ".model")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

# Part (subfolder) -> whether its weights are needed, or its configuration alone.
Parts = dict[str, bool]
# Files of which a tokenizer needs one set: its words.
VOCABULARIES = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))


class Description(dict):
    """What a .json file says of a base; ConfigError if it is broken, or lacks what is asked."""

    def __init__(self, file: Path) -> None:
        """Read the file."""
        self.file = file
        try:
            content = json.loads(read_text(file))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file} is broken ({error}); copy the base again") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{file} holds {str(content)[:40]}; wanted a JSON object")
        super().__init__(content)

    def __missing__(self, key: str) -> None:
        raise ConfigError(
            f"{self.file} has no {key!r}: it is of another kind of model than the chosen family's, "
            "or broken"
        )


def public_name(base: str) -> tuple[str, bool]:
    """A base's name as others may know it, and whether it is a model on the hub.

    Of a local path only the last part: the rest is nobody's business.
    """
    if HUB_ID.fullmatch(base) and not Path(base).exists():
        return base, True
    return Path(base).name, False


def single_file(model: ModelConfig) -> Path | None:
    """The transformer's file, where `model.path` is one; ConfigError for another kind of file."""
    path = Path(model.path).expanduser()
    if not path.is_file():
        return None
    if path.suffix != ".safetensors":
        raise ConfigError(f"model.path {model.path!r}: wanted a .safetensors file")
    return path


def components(model: ModelConfig) -> str:
    """`model.components`; ConfigError where it is not set, and a single file needs it."""
    if model.components is None:
        raise ConfigError(
            f"model.path {model.path!r} is a single file, which holds a transformer alone: set "
            "model.components to a hub id or folder with the VAE, text encoders and tokenizers "
            f"(such as {family_of(model.family).bases.example})"
        )
    return model.components


def described(model: ModelConfig) -> Path | None:
    """The folder that says everything of a base but the weights of a single file; if it is here."""
    single = Path(model.path).expanduser().is_file()
    name = model.components if single else model.path
    return local_folder(model, name) if name else None


def told_family(path: str, components: str | None = None) -> Family | None:
    """The family of a base by the transformer that it names; None of the embedded, or if unknown.

    A hub id tells nothing before it is here.
    """
    folder = None if is_embedded(path) else described(ModelConfig(path=path, components=components))
    if folder is None or not (index := folder / "model_index.json").is_file():
        return None
    _, kind = Description(index).get("transformer", (None, None))
    return next((one for one in registry().values() if one.lora.transformer == kind), None)


def locate(model: ModelConfig, name: str, parts: Parts) -> Path | str:
    """A local folder that holds all of `parts`, or the hub id if it can be fetched now.

    `name` is the path or the components of `model`. The hub's local cache goes first: with all
    files there, the network is not touched. ConfigError if neither works.
    """
    folder = local_folder(model, name)
    if folder is not None and not (lacking := _lacking(folder, parts)):
        return folder
    if is_embedded(name):
        raise ConfigError(_not_installed(model, name))
    if Path(name).expanduser().exists():
        raise ConfigError(
            f"model {name!r} is no complete diffusers folder: it lacks {', '.join(lacking)}; "
            f"wanted what a diffusers pipeline's save_pretrained writes, as safetensors"
        )
    if not HUB_ID.fullmatch(name):
        raise ConfigError(
            f"model {name!r} does not exist: wanted a diffusers folder, a .safetensors file, "
            f"a hub id such as {ModelConfig().path}, or {EMBEDDED}"
        )
    _reach(name, model.revision)
    return name


def _not_installed(model: ModelConfig, name: str) -> str:
    base = family_of(model.family).embedded
    if base is None:
        return f"model {name!r}: family {model.family!r} has no embedded base; wanted another path"
    return (
        f"model {name!r}: the embedded base is not in {base.folder}; install byg_train "
        "again, completely"
    )


def local_folder(model: ModelConfig, name: str) -> Path | None:
    """The folder that `name` means on this machine, complete or not; no network."""
    if is_embedded(name):
        base = family_of(model.family).embedded
        return base.folder if base and base.folder.is_dir() else None
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not HUB_ID.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(name, "model_index.json", revision=model.revision)
    return Path(index).parent if isinstance(index, str) else None


def download(name: Path | str, revision: str | None, parts: Parts) -> Path:
    """The local folder of what `locate` found; fetches from the hub if it has to."""
    if isinstance(name, Path):
        return name
    from huggingface_hub import snapshot_download

    wanted = [f"{part}/*{suffix}" for part in parts for suffix in SMALL]
    wanted += [f"{part}/*.safetensors" for part, weights in parts.items() if weights]
    folder = snapshot_download(
        name, revision=revision, allow_patterns=["model_index.json", *wanted]
    )
    return Path(folder)


def fingerprint(folder: Path, parts: Parts, *settings: object) -> str:
    """A hash of some parts and settings: small files whole, weights by size and both ends."""
    digest = hashlib.sha256(repr(settings).encode())
    for part in sorted(parts):
        for path in sorted(part_folder(folder, part).iterdir()):
            if path.suffix in (*SMALL, ".safetensors"):
                digest.update(f"{part}/{path.name} {path.stat().st_size}".encode())
                digest.update(_ends(path))
    return digest.hexdigest()[:16]


def content(model: ModelConfig) -> dict[str, str]:
    """Name -> hash of every file of a base, wherever it lies; nothing of one on the hub.

    The hub's cache may hold a part of it now and the rest later; its name and revision say enough.
    """
    files: dict[str, Path] = {}
    for what, name in (("", model.path), ("components/", model.components)):
        path = Path(name).expanduser() if name else None
        if path and path.is_file():
            files[f"{what}weights"] = path
        elif name and not (HUB_ID.fullmatch(name) and not path.exists()):
            folder = local_folder(model, name) or path
            parts = (*folder.glob("*/"), *shared_parts(folder).values())
            inside = (p for part in parts for p in part.glob("*.*"))
            found = (p for p in inside if p.suffix in (*SMALL, ".safetensors"))
            files |= {f"{what}{p.parent.name}/{p.name}": p for p in found}
        elif name:
            return {}
    return {name: file_hash(path) for name, path in sorted(files.items())}


def file_hash(path: Path) -> str:
    """Twelve letters that tell a file by its size and content, of a large one by both its ends."""
    return hashlib.sha256(f"{path.stat().st_size}".encode() + _ends(path)).hexdigest()[:12]


def _ends(path: Path, small: int = 4 << 20, end: int = 1 << 16) -> bytes:
    if path.stat().st_size <= small:
        return path.read_bytes()
    with path.open("rb") as file:
        first = file.read(end)
        file.seek(-end, 2)
        return first + file.read(end)


def _lacking(folder: Path, parts: Parts) -> list[str]:
    """Files that a folder would need and does not have."""
    lacking = []
    for part, weights in parts.items():
        here = part_folder(folder, part)
        is_tokenizer = part.startswith("tokenizer")
        config = "tokenizer_config.json" if is_tokenizer else "config.json"
        if not (here / config).is_file():
            lacking.append(f"{part}/{config}")
        elif is_tokenizer and not _has_vocabulary(here):
            # transformers would make one without words, and every text would read alike.
            lacking.append(f"{part}/{VOCABULARIES[0][0]}")
        elif weights:
            index = next(here.glob("*.safetensors.index.json"), None)
            shards = set(Description(index)["weight_map"].values()) if index else ()
            lacking += [f"{part}/{s}" for s in shards if not (here / s).is_file()]
            if not index and not any(here.glob("*.safetensors")):
                lacking.append(f"{part}/*.safetensors")
    return lacking


def _has_vocabulary(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names) for names in VOCABULARIES)


def _reach(name: str, revision: str | None) -> None:
    """ConfigError unless the hub would give us this model; asks for one file's header."""
    from huggingface_hub import errors as hub
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    try:
        url = hf_hub_url(name, "model_index.json", revision=revision)
        get_hf_file_metadata(url, token=get_token())
    except hub.GatedRepoError:
        raise ConfigError(
            f"model {name!r} needs your consent: accept its licence at "
            f"https://huggingface.co/{name}, then log in with `hf auth login`"
        ) from None
    except hub.RevisionNotFoundError:
        raise ConfigError(f"model {name!r} has no revision {revision!r} on the hub") from None
    except (hub.RepositoryNotFoundError, hub.EntryNotFoundError):
        raise ConfigError(
            f"model {name!r} is neither a folder here nor a diffusers model on the hub "
            f"(or it is private: log in with `hf auth login`)"
        ) from None
    except Exception as error:  # offline mode, and whatever the hub's transport raises
        raise ConfigError(
            f"model {name!r} has no complete local copy, and the hub cannot be reached "
            f"({type(error).__name__}): connect to the internet, or set model.path to a "
            f"diffusers folder, a .safetensors file, or {EMBEDDED}"
        ) from None
