"""A run goes on after its data or its base were moved: what identifies them is the content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_runs import byg, refused, small
from data_sets import manifest, row, save

from byg_train.config import ConfigError, TrainConfig, merge_settings
from byg_train.data.items import load_items
from byg_train.training.origin import unmoved, write_origin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data of three pictures, and what a base's folder looks like."""
    for i in range(3):
        save(tmp_path / "data" / f"{i}.png", i)
    manifest(tmp_path / "data", *(row(f"{i}.png") for i in range(3)))
    for name in ("transformer/config.json", "transformer/a.safetensors", "vae/config.json"):
        path = tmp_path / "base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def config(folder: Path) -> TrainConfig:
    return merge_settings(
        "flux_edit",
        data=folder / "data",
        model=str(folder / "base"),
        assignments=["data.holdout=1"],
    )


def known(run: Path, folder: Path) -> set[str]:
    settings = config(folder)
    return unmoved(run, settings, load_items(settings.data, 16))


@pytest.fixture
def run(folder: Path) -> Path:
    settings = config(folder)
    write_origin(folder / "run", settings, load_items(settings.data, 16))
    return folder / "run"


def test_what_was_moved_and_is_the_same_may_be_named_anew(folder: Path, run: Path) -> None:
    assert known(run, folder) >= {"data.path", "model.path", "model.components"}
    shutil.copytree(folder / "data", folder / "there" / "data")
    shutil.move(folder / "base", folder / "there" / "base")
    assert known(run, folder / "there") >= {"data.path", "model.path"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: save(f / "data" / "1.png", 9), "1 file changed, such as 1.png"),
        (lambda f: manifest(f / "data", row("0.png"), row("1.png")), "1 file gone, such as 2.png"),
        (
            lambda f: manifest(f / "data", *(row(f"{i}.png", src_caption="x") for i in range(3))),
            "3 files changed, such as 0.png",
        ),
        (
            lambda f: (f / "base" / "transformer" / "a.safetensors").write_text("b"),
            "1 file changed, such as transformer/a.safetensors",
        ),
        (
            lambda f: (f / "base" / "vae" / "config.json").unlink(),
            "1 file gone, such as vae/config.json",
        ),
    ],
)
def test_other_content_is_refused_by_name(
    folder: Path, run: Path, change: object, told: str
) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=told):
        known(run, folder)


def test_a_run_without_a_record_knows_nothing_of_its_base(folder: Path) -> None:
    assert known(folder / "other", folder) == set()


def test_a_warm_up_that_was_moved_or_renamed_is_the_same(folder: Path) -> None:
    from byg_train.family import WORLD

    def settings(lora: Path | str) -> TrainConfig:
        return merge_settings(
            "demo", data=folder / "data", assignments=["data.holdout=1", f"warmup.lora={lora}"]
        )

    first, later, other = (folder / f"{name}.safetensors" for name in ("first", "later", "other"))
    shutil.copy(WORLD / "warmup.safetensors", first)
    data = load_items(settings(first).data, 16)
    write_origin(folder / "run", settings(first), data)
    shutil.move(first, later)
    for same in (later, "world"):  # it is the embedded one's content
        assert "warmup.lora" in unmoved(folder / "run", settings(same), data)
    for named in (first, "null"):
        assert "warmup.lora" not in unmoved(folder / "run", settings(named), data)
    shutil.copy(WORLD / "demo.safetensors", other)
    with pytest.raises(ConfigError, match=r"other\.safetensors is not what .* LoRA of"):
        unmoved(folder / "run", settings(other), data)


@pytest.mark.slow
def test_a_run_resumes_beside_moved_folders(tiny_base: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    for i in range(3):
        save(data / f"{i}.png", i)
    manifest(data, *(row(f"{i}.png") for i in range(3)))
    base = shutil.copytree(tiny_base, tmp_path / "base")
    more = ("--set", "data.holdout=1", "--set", "train.checkpoint_every=1")
    result = byg(*small(base, data, run, "--steps", 1, *more))
    assert result.exit_code == 0, result.output
    shutil.move(data, tmp_path / "moved" / "pictures")
    shutil.move(base, tmp_path / "moved" / "model")
    data, base = tmp_path / "moved" / "pictures", tmp_path / "moved" / "model"
    result = byg(*small(base, data, run, "--steps", 2, "--resume", *more))
    assert result.exit_code == 0, result.output
    save(data / "2.png", 7)
    words = small(base, data, run, "--steps", 3, "--resume", *more)
    refused(byg(*words), "not what", "1 file changed, such as 2.png")
