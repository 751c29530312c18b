"""Plans of runs, presets and printed configurations."""

from __future__ import annotations

import collections
import tempfile
from pathlib import Path

import pytest
from cli_runs import byg, refused, small
from rich.console import Console

from byg_train.cli import train as train_module
from byg_train.config import PRESETS, build_config, load_preset
from byg_train.data.items import load_items
from byg_train.training.plan import shapes


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_has_a_plan(
    preset: str, tiny_data: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    of_clips = build_config(load_preset(preset)).data.frames > 1
    data, side = (tiny_clips, 32) if of_clips else (tiny_data, 16)
    command = ["--preset", preset, "--data", data, "--set", f"data.resolution={side}"]
    result = byg(*command, "--dry-run", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for words in (
        f"Plan of preset {preset}",
        "5 for training, 1 held out",
        f"{side}x{side}: 5",
        "estimates",
    ):
        assert words in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_loads")
def test_a_plan_says_what_the_losses_weigh_at_the_end(tiny_data: Path, tmp_path: Path) -> None:
    command = ["--preset", "demo_long", "--data", tiny_data, "--output", tmp_path / "run"]
    for share, wanted in ((0.6, "2 (0.5 at the end) x"), (0, "0.5 x"), (1, "2 x")):
        told = byg(*command, "--set", f"method.gentle_from={share}", "--dry-run").stdout
        assert f"│ {wanted} prior_fwd" in told


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("preset", "tokens", "host"),
    [
        ("wan22_style", "30,240", "57.1 GB of main memory"),
        ("wan22_5b_style", "7,560", ""),
        ("wan21_small_style", "30,240", ""),
    ],
)
def test_a_video_preset_without_data_says_what_it_needs_and_what_runs_now(
    preset: str, tokens: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a 16:9 clip, with its source."""
    monkeypatch.setattr(train_module, "CONSOLE", Console(stderr=True, width=220))
    result = byg("--preset", preset)
    plain = ["--data DATA", "cat.mp4", "metadata.jsonl", "a caption beside every clip"]
    refused(result, *plain, f"Plan of preset {preset}", "such as 576x320; 81 frames")
    refused(result, f"{tokens} attend to each other", "F in full", host, "750 of 8 items")
    lines = result.stderr.splitlines()
    one, eight = (next(x for x in lines if f"time, {n} GPU" in x) for n in (1, 8))
    assert "H100" in one and "H100" in eight and "the paper's machine" in eight
    assert lines[-1].endswith("this runs now: python -m byg_train --preset demo_video")


@pytest.mark.usefixtures("nothing_loads")
def test_a_card_counts_without_data_too() -> None:
    printed = byg("--preset", "flux_edit", "--vram", "24", "--print-config")
    assert printed.exit_code == 0 and 'storage = "fp8"' in printed.stdout
    assert "For this memory: --set model.storage=fp8" in printed.stderr
    refused(byg("--preset", "wan22_style", "--vram", "24"), "model.placement=streamed", "Plan of")
    refused(byg("--preset", "flux_edit", "--vram", "20"), "--vram 20: wanted auto")


@pytest.mark.usefixtures("nothing_loads")
def test_one_expert_of_a_base_that_has_no_two_is_refused(
    tiny_base: Path, tiny_data: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    command = small(tiny_base, tiny_data, tmp_path / "run", "--set", "train.expert=low")
    refused(byg(*command), "train.expert is 'low'", "Wan alone")
    command = ["--preset", "wan22_5b_style", "--data", tiny_clips, "--output", tmp_path / "run"]
    refused(byg(*command, "--set", "train.expert=high"), "'high'", "has one network")


def test_a_plan_says_what_is_too_large_and_what_must_come_first(tiny_data: Path) -> None:
    command = ["--preset", "flux_edit", "--data", tiny_data, "--dry-run"]
    plain = " ".join(byg(*command).stdout.split())
    assert "download of the base 33." in plain and "A100 " in plain
    large = byg(*command, "--set", "model.dtype=float32", "--set", "lora.rank=2048")
    assert "fits none of the known GPUs" in " ".join(large.stdout.split())
    other = byg(*command, "--model", "somebody/else")
    assert "download of the base, of unknown size" in " ".join(other.stdout.split())


def test_the_demo_plans_with_its_own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered into a temporary folder, and counted."""
    from byg_train.world import demo

    prepare, folders = demo.Demo.prepare, []

    def few(self: demo.Demo, folder: Path) -> Path:
        folders.append(folder)
        return prepare(self, folder, items=30)

    monkeypatch.setattr(demo.Demo, "prepare", few)
    monkeypatch.chdir(tmp_path)
    result = byg("--preset", "demo", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "for training" in result.stdout and "none yet" not in result.stdout
    assert folders[0].is_relative_to(tempfile.gettempdir()) and not folders[0].exists()
    assert not list(tmp_path.iterdir())


def test_shapes_count_buckets_and_tokens(tiny_base: Path, tiny_data: Path) -> None:
    """Tokens of 8 x 8 px: 4 in a 16 px square; the mean over buckets is weighted by items."""
    tables = {"model": {"path": str(tiny_base), "text_len": 24}}
    config = build_config({**tables, "data": {"path": str(tiny_data), "resolution": 16}})
    found = shapes(config, 8, load_items(config.data, 8))
    assert (dict(found.sizes), found.text, found.image) == ({(16, 16): 5}, 24, {(16, 16): 4})
    assert found.mean_image == 4
    mixed = found._replace(sizes=collections.Counter({(16, 16): 3, (24, 8): 1}))
    mixed = mixed._replace(image={(16, 16): 4, (24, 8): 3})
    assert mixed.mean_image == pytest.approx((3 * 4 + 3) / 4)


def test_presets_are_listed() -> None:
    result = byg("presets")
    assert result.exit_code == 0
    for name in PRESETS:
        assert name in result.stdout
    assert "30000" in result.stdout and "world" in result.stdout


def test_print_config_is_accepted_again(tmp_path: Path) -> None:
    changes = ["--set", "method.ema_decay=null", "--seed", 3, "--steps", 7]
    first = byg("--preset", "demo", *changes, "--print-config")
    file = tmp_path / "printed.toml"
    file.write_text(first.stdout)
    second = byg("--config", file, "--print-config")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert second.stdout == first.stdout
    assert "steps = 7\n" in first.stdout and 'ema_decay = "null"\n' in first.stdout
