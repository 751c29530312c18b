"""`data styles`: the manifest says what training makes of the folders, and trains as they do."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runs import byg
from data_sets import rows
from PIL import Image

from byg_train.config import DataConfig
from byg_train.data.items import Dataset, load_items
from byg_train.world.names import STYLE_PHRASE
from byg_train.world.scenes import Scene, article, caption, draw, random_scene

# What the tiny world calls its styles.
WORLD_STYLES = """
caption = "a {style} of {caption}"
instruction = "turn the {from_style} into a {style}"
[styles.3d]
phrase = "3d render"
[styles.flat]
phrase = "flat icon"
[styles.ink]
phrase = "ink drawing"
caption = "an {style} of {caption}"
instruction = "turn the {from_style} into an {style}"
"""


def load(root: Path) -> Dataset:
    return load_items(DataConfig(path=root, holdout=2), multiple=8)


def uses(data: Dataset) -> Counter[tuple]:
    return Counter((i.path, i.texts, i.edit_type, i.split) for i in (*data.train, *data.test))


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, dict[str, Scene]]:
    """Style folders of unlike sizes with the tiny world's pictures, and what each shows."""
    root, rng, scenes = tmp_path / "world", random.Random(0), {}
    for style, number in (("3d", 4), ("flat", 2), ("ink", 3)):
        (root / style).mkdir(parents=True)
        for i in range(number):
            scene = random_scene(rng, style=style, tint=None)
            name = f"{style}/{i}.png"
            scenes[name] = scene
            Image.fromarray(draw(scene)).save(root / name)
            article = "an" if style == "ink" else "a"
            words = caption(scene).removeprefix(f"{article} {STYLE_PHRASE[style]} of ")
            (root / name).with_suffix(".txt").write_text(words)
    (root / "styles.toml").write_text(WORLD_STYLES)
    return root, scenes


def test_the_manifest_trains_as_the_folders_do(world: tuple[Path, dict[str, Scene]]) -> None:
    root, scenes = world
    before = load(root)
    result = byg("data", "styles", root, "--holdout", 2)
    assert result.exit_code == 0, result.output
    assert "For other words" not in result.output  # it has its own
    after = load(root)
    assert uses(after) == uses(before)
    assert after.fingerprint == before.fingerprint
    # And says of every picture what the world itself would say.
    for row in rows(root):
        scene = scenes[row["file_name"]]
        assert row["src_caption"] == caption(scene)
        now, styles = STYLE_PHRASE[scene.style], set(STYLE_PHRASE) - {scene.style}
        told = {
            caption(replace(scene, style=style)): (
                f"turn the {now} into {article(STYLE_PHRASE[style])}",
                f"turn the {STYLE_PHRASE[style]} into {article(now)}",
            )
            for style in styles
        }
        assert told[row["tgt_caption"]] == (row["instruction"], row["reverse_instruction"])


def test_every_direction_is_equally_frequent(world: tuple[Path, dict[str, Scene]]) -> None:
    root, _ = world
    assert byg("data", "styles", root, "--holdout", 0).exit_code == 0
    directions = Counter()
    for row in rows(root):
        directions[row["file_name"].split("/")[0], row["instruction"]] += row.get("repeats", 1)
    assert len(directions) == 6 and set(directions.values()) == {4}


def test_a_manifest_is_replaced_only_when_asked(world: tuple[Path, dict[str, Scene]]) -> None:
    root, _ = world
    (root / "metadata.jsonl").write_text("mine\n")
    result = byg("data", "styles", root)
    assert result.exit_code == 2 and "--force" in result.stderr
    assert (root / "metadata.jsonl").read_text() == "mine\n"
    assert byg("data", "styles", root, "--force").exit_code == 0
    assert (root / "metadata.jsonl.bak").read_text() == "mine\n"
    assert len(rows(root)) == 18
    # Nor is what was kept lost at the next time, and nothing is kept twice.
    for _ in range(3):
        assert byg("data", "styles", root, "--force").exit_code == 0
    assert (root / "metadata.jsonl.1.bak").read_text() == "mine\n"
    assert len(list(root.glob("*.bak"))) == 2


def test_missing_captions_are_listed_dropped_or_stood_in_for(
    world: tuple[Path, dict[str, Scene]],
) -> None:
    root, _ = world
    (root / "3d" / "1.txt").unlink()
    (root / "ink" / "0.txt").write_text(" ")
    result = byg("data", "styles", root)
    assert result.exit_code == 2 and "Traceback" not in result.output
    stand_in = '--caption "a picture" stands in for 1 caption)'
    for word in ("2 problems", "3d/1.png: no caption", "0.txt is empty", "--drop", stand_in):
        assert word in result.stderr
    assert not (root / "metadata.jsonl").exists()
    result = byg("data", "styles", root, "--drop")
    assert result.exit_code == 0 and "left out: 3d/1.png: no caption" in result.stderr
    assert {"3d/1.png", "ink/0.png"}.isdisjoint({row["file_name"] for row in rows(root)})
    (root / "ink" / "0.txt").write_text("a bus")
    result = byg("data", "styles", root, "--force", "--caption", "a picture")
    assert result.exit_code == 0, result.output
    stood_in = {row["src_caption"] for row in rows(root) if row["file_name"] == "3d/1.png"}
    assert stood_in == {"a 3d render of a picture"}


def test_excluded_pictures_are_left_out_and_the_rest_is_balanced(
    world: tuple[Path, dict[str, Scene]],
) -> None:
    root, _ = world
    (root / "excluded.txt").write_text(
        "3d/0.png\nink/1.png\tturn the ink drawing into a 3d render\n"
    )
    before = load(root)
    result = byg("data", "styles", root, "--holdout", 2)
    assert result.exit_code == 0 and "3 excluded" in result.output
    assert uses(load(root)) == uses(before)
    told = {(row["file_name"], row["instruction"]) for row in rows(root)}
    assert len(told) == 18 - 3 and not [name for name, _ in told if name == "3d/0.png"]


@pytest.mark.slow
def test_a_set_made_here_trains_with_the_demo_unchanged(
    world: tuple[Path, dict[str, Scene]], tmp_path: Path
) -> None:
    """The real base, the real trainer, no setting changed but the number of steps."""
    root, _ = world
    assert byg("data", "styles", root, "--holdout", 1).exit_code == 0
    output = tmp_path / "run"
    words = [
        "--preset",
        "demo",
        "--data",
        root,
        "--steps",
        2,
        "--output",
        output,
        "--device",
        "cpu",
    ]
    result = byg(*words)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] in ("full", "identity")] == [1, 2]
    assert (output / "run.safetensors").exists()
    assert (output / "samples" / "step-000002.png").exists()
