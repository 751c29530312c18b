"""What must be told before anything is loaded: values that look like others, places to write."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.odd.case import Case, manifest, picture, row

# Values of settings that are texts -> what the message shows of it.
LOOKS = {
    "model.revision=12345678": "'model.revision=\"12345678\"'",
    "model.revision=1234e5": "'model.revision=\"TEXT\"'",
    "model.revision=0.9": "'model.revision=\"TEXT\"'",
    "model.revision=true": "'model.revision=\"TEXT\"'",
    "model.revision=2024-01-01": "'model.revision=\"TEXT\"'",
    "model.path=2023": "'model.path=\"2023\"'",
    "model.components=7": "'model.components=\"7\"'",
    "warmup.lora=1": "'warmup.lora=\"1\"'",
    "sample.negative=1": "'sample.negative=\"1\"'",
    "data.path=2023": "'data.path=\"2023\"'",
    "data.cache=5": "'data.cache=\"5\"'",
    "data.styles=8": "'data.styles=\"8\"'",
    "description=3": "'description=\"3\"'",
}
FITS = {
    'model.revision="12345678"': 'revision = "12345678"',
    "model.revision='12345678'": 'revision = "12345678"',
    "model.revision=0123": 'revision = "0123"',
    "model.revision=main": 'revision = "main"',
    "model.revision=null": 'revision = "null"',
}


def _set(assignment: str, root: Path) -> list[object]:
    return ["--preset", "flux_edit", "--set", assignment, "--print-config"]


def _file(line: str, root: Path) -> list[object]:
    section, _, rest = line.partition(".")
    (root / "c.toml").write_text(f"[{section}]\n{rest}\n")
    return ["--config", root / "c.toml", "--print-config"]


def _train(setting: str, output: str, root: Path) -> list[object]:
    picture(root / "data" / "a.png")
    manifest(root / "data", row())
    (root / "file").write_text("")
    words = ["--preset", "demo", "--data", root / "data", "--output", root / output]
    return [*words, "--set", setting.replace("ROOT", str(root)), "--device", "cpu"]


def _edit(output: str, root: Path) -> list[object]:
    from byg_train.family import WORLD

    (root / "file").write_text("")
    words = ["edit", "--lora", WORLD / "demo.safetensors", "--input", picture(root / "a.png")]
    return [*words, "--instruction", "x", "--output", root / output, "--device", "cpu"]


def _base(text: str, root: Path) -> list[object]:
    """A base whose transformer is described by this text."""
    path = root / "base" / "transformer" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    picture(root / "data" / "a.png")
    data = manifest(root / "data", row())
    return ["--preset", "flux_edit", "--model", root / "base", "--data", data, "--dry-run"]


def cases() -> Iterator[Case]:
    for name, text, words in (
        ("another kind of model", '{"patch_size": 2}', "has no 'num_attention_heads'"),
        ("cut JSON", '{"num_layers": ', "is broken"),
        ("nothing", "", "is broken"),
        ("a list", "[1]", "wanted a JSON object"),
    ):
        yield Case(f"a base described by {name}", partial(_base, text), 2, ("config.json", words))
    for assignment, words in LOOKS.items():
        if "." in assignment.partition("=")[0]:
            yield Case(f"a file: {assignment}", partial(_file, assignment), 2, (words,))
        yield Case(f"--set {assignment}", partial(_set, assignment), 2, (words,))
    for assignment, words in FITS.items():
        yield Case(f"--set {assignment}", partial(_set, assignment), 0, (words,))
    for setting, output, words in (
        ("data.cache=/proc/byg", "run", "the cache of latents /proc/byg cannot be written"),
        ("data.cache=ROOT/file", "run", "the cache of latents"),
        ("data.cache=ROOT/file/cache", "run", "the cache of latents"),
        ("seed=1", "file/run", "the output folder"),
        ("seed=1", "../../../../proc/byg", "the output folder /proc/byg cannot be written"),
        ("seed=1", "file", "is a file"),
    ):
        yield Case(f"{setting} into {output}", partial(_train, setting, output), 2, (words,))
    for output in ("file/out.png", "../../../../proc/out.png"):
        yield Case(f"edit into {output}", partial(_edit, output), 2, ("cannot be written",))
