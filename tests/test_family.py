"""Families: records that everything else asks, and a third one that only its own file knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from family_runs import byg, edits
from toy_family import TOY, write_base

from byg_train.config import PRESETS, ConfigError, build_config
from byg_train.family import EMBEDDED, demos, family_of, register, registry
from byg_train.models.backbone import load_backbone
from byg_train.models.lora_file import LoraInfo, read_lora

ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- the third family


@pytest.fixture(scope="module")
def toy() -> None:
    """The family, registered for the tests of this file."""
    register(TOY)
    yield
    del registry()[TOY.name]


@pytest.fixture(scope="module")
def settings(toy: None, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on the tiny pictures, with samples at the start and at the end."""
    folder = tmp_path_factory.mktemp("toy")
    tables = {
        "model": {
            "family": "toy", "path": str(write_base(folder / "base")), "dtype": "float32",
            "reference_mode": "shared", "gradient_checkpointing": False, "text_len": 8,
        },
        "guidance": dict.fromkeys(("train", "prior", "sample"), "null"),
        "data": {
            "path": str(tiny_data), "resolution": 16, "cache": str(folder / "cache"),
        },
        "rollout": {"steps": 2},
        "warmup": {"min_steps": 1, "max_steps": 1},
        "method": {"identity_probability": 0.0},
        "lora": {"rank": 2},
        "optimizer": {"lr": 0.05},
        "train": {"steps": 2, "global_batch": 2, "batch_size": 2, "checkpoint_every": 2},
        "sample": {"steps": 2, "shift": 1.0, "count": 1},
    }  # fmt: skip
    file = folder / "toy.toml"
    file.write_text(tomli_w.dumps(tables))
    return file


@pytest.fixture(scope="module")
def run(settings: Path) -> Path:
    """A whole training with the public command."""
    output = settings.parent / "run"
    byg("--preset", "flux_edit", "--config", settings, "--output", output, "--device", "cpu")
    return output


@pytest.mark.slow
def test_it_trains(run: Path) -> None:
    file = read_lora(run / "run.safetensors")
    info = LoraInfo.from_metadata(file.metadata)
    assert (info.family, info.multiple, info.steps) == ("toy", 4, 3)
    assert (info.frames, info.fps) == (None, None)  # no clips
    assert file.metadata["modelspec.architecture"] == "toy/lora"
    assert file.metadata["ss_base_model_version"] == "toy1"
    assert file.prefix == "toy."
    # As ComfyUI would call it, and as the network does.
    assert file.tensors.keys() == {f"blend.lora_{x}.weight" for x in "AB"}
    assert file.by_diffusers_names().keys() == {f"mix.lora_{x}.weight" for x in "AB"}
    assert file.tensors["blend.lora_B.weight"].abs().max() > 0  # it began at zero
    assert {p.name for p in (run / "samples").iterdir()} >= {"step-000003.png"}


def test_it_is_probed(settings: Path, tmp_path: Path) -> None:
    words = ("--items", 2, "--times", "0.5", "--output", tmp_path, "--device", "cpu")
    said = byg("probe", "--preset", "flux_edit", "--config", settings, *words).output
    assert "the bottom of the loss is" in said


def test_it_plans(settings: Path) -> None:
    plan = byg("--preset", "flux_edit", "--config", settings, "--dry-run").output
    assert "16x16" in plan and "8 of text" in plan and "words alone" in plan


@pytest.mark.slow
def test_it_edits(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    edits(run, tiny_data / "0.png", tmp_path)


@pytest.mark.slow
def test_it_exports(run: Path, tmp_path: Path) -> None:
    byg("export", run, "--output", tmp_path / "out", "--name", "ink")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"ink.safetensors", "ink.png", "README.md"}  # and no workflow
    text = (tmp_path / "out" / "README.md").read_text()
    for words in ("does not know the toy", "ToyPipeline", "None to speak of", '"cc0-1.0"'):
        assert words in text
    assert "image-editing LoRA" in text and "the target's" in text
    exported = read_lora(tmp_path / "out" / "ink.safetensors")
    assert exported.tensors.keys() == read_lora(run / "run.safetensors").tensors.keys()


def test_its_rules_are_its_own(toy: None, tmp_path: Path) -> None:
    def model(**settings: object) -> dict[str, object]:
        return {"model": {"family": "toy", "reference_mode": "shared", **settings}}

    with pytest.raises(ConfigError, match="reference_mode is 'index', .*'toy' .*'shared'"):
        build_config(model(reference_mode="index"))
    with pytest.raises(ConfigError, match="data.frames is 5, .*'toy' takes 1"):
        build_config({**model(), "data": {"frames": 5}})
    with pytest.raises(ConfigError, match="train.expert is 'low', .*'toy' takes 'both'"):
        build_config({**model(), "train": {"expert": "low"}})
    with pytest.raises(ConfigError, match="no toy.safetensors"):
        load_backbone(build_config(model(path=str(tmp_path))).model, "cpu")


# ---------------------------------------------------------------- the registry


def test_a_folder_is_a_family() -> None:
    folders = {p.parent.name for p in (ROOT / "byg_train" / "models").glob("*/record.py")}
    assert {"flux", "wan", "z_image"} <= folders == registry().keys() - {TOY.name}
    for name in folders:
        assert family_of(name).name == name
    with pytest.raises(ValueError, match=r"'wam' is unknown; known: flux, wan"):
        family_of("wam")


def test_settings_name_a_known_family() -> None:
    with pytest.raises(ConfigError, match=r"model.family: .*'wam'.* known: flux, wan"):
        build_config({"model": {"family": "wam"}})
    with pytest.raises(ConfigError, match=r"sample.shift: .*a number.* flux"):
        build_config({"sample": {"shift": "wan"}})


def test_records_load_nothing_heavy() -> None:
    code = (
        "import sys; from byg_train.family import registry; registry();"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not set(run.stdout.split()) & {"torch", "pydantic", "diffusers", "transformers", "peft"}


@pytest.mark.parametrize("name", ["flux", "wan", "z_image"])
def test_every_function_of_a_record_is_there(name: str) -> None:
    """They are named in words and imported late: a slip would show on first use."""
    family = family_of(name)
    for part in (family.bases, family.publishing, family):
        for field, value in vars(part).items():
            if getattr(value, "target", None):
                assert callable(value.function()), f"{name}.{field}"
    if family.embedded is None:
        return
    assert family.embedded.folder.is_dir() and family.embedded.example.is_file()
    stem = family.embedded.warmup.stem
    assert [*family.embedded.folder.parent.glob(f"{stem}*.safetensors")]


def test_every_demo_of_a_record_draws_its_data() -> None:
    from byg_train.world.demo import DEMOS

    assert DEMOS.keys() == demos() <= PRESETS.keys()


# ---------------------------------------------------------------- nobody asks for a name

# A family's own: its folder, what ComfyUI's side knows of it, what builds the embedded bases.
FAMILIES = ("flux", "wan", "z_image")
OWN = ("byg_train/world/", *(f"byg_train/models/{name}/" for name in FAMILIES))
OWN += ("nodes/host/tiny.py", *(f"nodes/host/{name}.py" for name in FAMILIES))
OWN += ("nodes/host/tiny_wan.py", "nodes/host/tiny_z_image.py")
# Where a name is not tested for.
EXCEPTIONS = {
    ("byg_train/family.py", EMBEDDED): "where the embedded bases get their name",
    ("byg_train/config/sections.py", "flux"): "the default values of a run",
    ("byg_train/config/sections.py", "black-forest-labs/FLUX.1-dev"): "the same",
}
# Models by name, as in hub ids and files.
MODEL = re.compile(r"\bflux|\bwan(?![td]|e)|z[-_]image|\d+b\b|a14b|kontext", re.IGNORECASE)


def literals(path: Path) -> list[ast.Constant]:
    """Strings in the code of a file, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [n for n in found if isinstance(n.value, str) and id(n) not in words]


def elsewhere(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    return [p for p in files if not p.relative_to(ROOT).as_posix().startswith(OWN)]


@pytest.mark.parametrize("room", ["byg_train", "nodes"])
def test_no_family_and_no_base_is_asked_for_by_name(room: str) -> None:
    names = {*registry(), EMBEDDED} - {TOY.name}
    found = set()
    for path in elsewhere(room):
        here = path.relative_to(ROOT).as_posix()
        for node in literals(path):
            if node.value.lower() in names:
                found.add((here, node.value))
    assert found - EXCEPTIONS.keys() == set()


def test_no_model_is_named_in_code() -> None:
    """Not even in a message: it would be wrong for the next family. Nodes speak to artists."""
    found = []
    for path in elsewhere("byg_train"):
        here = path.relative_to(ROOT).as_posix()
        for node in literals(path):
            if (here, node.value) not in EXCEPTIONS and MODEL.search(node.value):
                found.append(f"{here}:{node.lineno}: {node.value!r}")
    assert not found, "\n".join(found)


def test_every_exception_is_needed() -> None:
    for here, word in EXCEPTIONS:
        assert word in {node.value for node in literals(ROOT / here)}, (here, word)
