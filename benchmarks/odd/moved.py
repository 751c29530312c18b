"""Runs whose data or base lie elsewhere now, or are others under the same name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.odd.case import Case, manifest, picture, row

# What the checks read of a FLUX base.
SIZES = {
    "block_out_channels": [1, 1, 1, 1], "num_attention_heads": 2, "attention_head_dim": 16,
    "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 8, "in_channels": 64,
    "d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 8, "vocab_size": 9,
}  # fmt: skip
FAMILY = ["--preset", "flux_edit", "--device", "cpu", "--set", "data.holdout=1"]


def _base(folder: Path) -> Path:
    """A folder that looks like a base; the checks read no weights."""
    for name in (
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
    ):
        path = folder / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(SIZES))
        (path / "model.safetensors").write_text(name)
    return folder


def _run(change: Callable[[Path], object], root: Path) -> list[object]:
    """A run that has weights; then a change; then the words that resume it with another rank."""
    from byg_train.config import merge_settings
    from byg_train.data.items import load_items
    from byg_train.training.origin import write_origin
    from byg_train.training.run_folder import write_config

    for i in range(3):
        picture(root / "data" / f"{i}.png", i)
    manifest(root / "data", *(row(f"{i}.png") for i in range(3)))
    settings = merge_settings(
        "flux_edit",
        data=root / "data",
        model=str(_base(root / "base")),
        assignments=["data.holdout=1"],
    )
    write_config(root / "run", settings)
    write_origin(root / "run", settings, load_items(settings.data, 16))
    (root / "run" / "run.safetensors").write_bytes(b"")
    change(root)
    data, base = (next(root.glob(f"**/{name}")) for name in ("data", "base"))
    words = [*FAMILY, "--data", data, "--model", base, "--output", root / "run", "--resume"]
    return [*words, "--set", "lora.rank=7"]


def _move(name: str, to: str, root: Path) -> None:
    (root / to).mkdir(exist_ok=True)
    shutil.move(root / name, root / to / name)


def _both(root: Path) -> None:
    _move("data", "there", root)
    _move("base", "there", root)


def _link(root: Path) -> None:
    (root / "z").mkdir()
    shutil.move(root / "data", root / "z" / "pictures")
    (root / "data").symlink_to(root / "z" / "pictures")


def _touch(root: Path) -> None:
    for path in (root / "data").iterdir():
        path.touch()


def _rank_alone(folder: Path, printed: str) -> str | None:
    """The run is the same but for the rank, which alone may be named."""
    named = [word for word in ("data.path", "model.path", "is not what") if word in printed]
    return f"it complains of {named[0]}: {printed}" if named else None


def cases() -> Iterator[Case]:
    for name, change in {
        "nothing was moved": lambda root: None,
        "the data were moved": partial(_move, "data", "there"),
        "the base was moved": partial(_move, "base", "there"),
        "both were moved": _both,
        "the data are a link now": _link,
        "the files have new dates": _touch,
    }.items():
        yield Case(name, partial(_run, change), 2, ("lora.rank: ", "7 now"), _rank_alone)
    for name, change, told in (
        ("a picture changed", lambda r: picture(r / "data" / "1.png", 9), "changed, such as 1.png"),
        ("a picture is gone", lambda r: manifest(r / "data", row("0.png"), row("1.png")), "gone, such as 2.png"),
        ("a text changed", lambda r: manifest(r / "data", row("0.png", instruction="x"), row("1.png"), row("2.png")), "changed, such as 0.png"),
        ("a new picture", lambda r: (picture(r / "data" / "3.png", 3), manifest(r / "data", *(row(f"{i}.png") for i in range(4)))), "new, such as 3.png"),
        ("the base's weights changed", lambda r: (r / "base" / "vae" / "model.safetensors").write_text("x"), "changed, such as vae/model.safetensors"),
        ("a part of the base changed", lambda r: (r / "base" / "transformer" / "config.json").write_text(json.dumps({**SIZES, "x": 1})), "changed, such as transformer/config.json"),
    ):  # fmt: skip
        yield Case(name, partial(_run, change), 2, ("is not what", told, "begun with"))
