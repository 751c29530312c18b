"""`evaluate score` on real folders, with tiny networks."""

from __future__ import annotations

import json
import math
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from edit_folders import NAMES, evaluate, make_tasks, picture, score
from PIL import Image
from safetensors.numpy import save_file

from byg_train.data import DataError
from byg_train.evaluate.metrics.psnr import psnr
from byg_train.evaluate.scoring import methods_of
from byg_train.evaluate.tasks import short_names
from byg_train.media.writer import write_clip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tasks(tmp_path)
    return tmp_path


def test_one_table_of_means_errors_and_missing_values(
    root: Path, clip_folder: Path, dino_folder: Path
) -> None:  # fmt: skip
    networks = ("--clip", clip_folder, "--dino", dino_folder)
    done, told = score(root, "--truths", root / "truths", *networks)
    assert done.exit_code == 0, done.output
    columns = ["clip_dir", "dino", "psnr", "ssim", "recall@1", "recall@5"]
    assert list(told) == ["first", "second"]
    assert list(told["first"]["all"]) == columns
    edits = told["first"]["edits"]
    sizes = {e: np.array(Image.open(root / f"first/{e}.png").resize((24, 16), 3)) for e in NAMES}
    for name in NAMES:  # compared at the source's size
        truth = np.array(Image.open(root / f"truths/{name}.png"))
        assert edits[name]["psnr"] == pytest.approx(psnr(sizes[name][None], truth[None]))
    values = [edits[name]["psnr"] for name in NAMES]
    all_of_it = told["first"]["all"]["psnr"]
    assert all_of_it["mean"] == pytest.approx(np.mean(values))
    assert all_of_it["sem"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert (all_of_it["n"], all_of_it["missing"]) == (3, 0)
    second = told["second"]["all"]["psnr"]
    assert (second["n"], second["missing"]) == (2, 1)
    assert "second: of 3 edits without a value: clip_dir 1, dino 1, psnr 1, ssim 1" in done.output
    cell = f"{all_of_it['mean']:.3f} ± {all_of_it['sem']:.3f}"
    assert cell in done.output and "| method" in done.output
    groups = told["first"]["groups"]
    assert groups["add"]["psnr"]["mean"] == pytest.approx(np.mean(values[1:]))
    mean_of_groups = (values[0] + np.mean(values[1:])) / 2
    assert told["first"]["macro_mean"]["psnr"] == pytest.approx(mean_of_groups)
    intersection = told["first"]["intersection"]  # of it is the first edit alone
    assert intersection["macro_mean"]["psnr"] == pytest.approx(values[0])
    assert list(intersection["groups"]) == ["style"]
    assert intersection["groups"]["style"]["psnr"]["n"] == 1
    rows = [line for line in done.output.splitlines() if line.startswith("| of the intersection")]
    assert any(f"{values[0]:.3f}" in row for row in rows)
    flags = {name: (edit["group"], edit["intersection"]) for name, edit in edits.items()}
    assert flags == {"a": ("style", True), "b": ("add", False), "sub/c": ("add", False)}
    lacking = told["second"]["edits"]["sub/c"]
    assert lacking["group"] == "add" and lacking["psnr"] is None


def test_a_copy_is_told_from_an_edit(root: Path, dino_folder: Path) -> None:
    shutil.copytree(root / "tasks", root / "copy")
    (root / "copy/metadata.jsonl").unlink()
    done = evaluate("score", root / "copy", "--sources", root / "tasks", "--metrics",
                    "dino,psnr,retrieval", "--truths", root / "tasks", "--dino", dino_folder,
                    "--json", root / "o.json", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    everything = json.loads((root / "o.json").read_text(), parse_constant=pytest.fail)["copy"]
    told = everything["all"]
    assert told["dino"]["mean"] == pytest.approx(1)
    # Infinite is no number in JSON, and not missing.
    assert told["psnr"] == {"mean": "inf", "sem": None, "n": 3, "missing": 0}
    assert everything["macro_mean"]["psnr"] == everything["edits"]["a"]["psnr"] == "inf"
    assert float("inf") == float(told["psnr"]["mean"])
    assert told["recall@1"]["mean"] == 1


def test_clips(tmp_path: Path, dino_folder: Path) -> None:
    rng = np.random.default_rng(0)
    still = [rng.integers(0, 255, (32, 48, 3), np.uint8)] * 5
    moving = [np.roll(still[0], 4 * i, 1) for i in range(5)]
    for folder, frames in (("tasks", still), ("results", moving)):
        write_clip(tmp_path / folder / "clip.mp4", iter(frames), fps=Fraction(8))
    done = evaluate("score", tmp_path / "results", "--sources", tmp_path / "tasks",
                    "--instruction", "Make it move", "--dino", dino_folder,
                    "--json", tmp_path / "o.json", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "o.json").read_text())["results"]["all"]
    assert list(told) == ["dino", "flicker"]
    assert told["flicker"]["mean"] < 0.9
    write_clip(tmp_path / "results/clip.mp4", iter(moving[:4]), fps=Fraction(8))
    done = evaluate("score", tmp_path / "results", "--sources", tmp_path / "tasks",
                    "--instruction", "x", "--metrics", "flicker")  # fmt: skip
    assert done.exit_code == 2 and "has 4 frames, its source" in done.stderr


@pytest.mark.parametrize(("rate", "fits"), [("24000/1001", True), ("25", False), ("12", False)])
def test_clips_are_compared_at_one_rate(tmp_path: Path, rate: str, fits: bool) -> None:
    frames = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(5)]
    write_clip(tmp_path / "tasks/clip.mp4", iter(frames), fps=Fraction(24))
    write_clip(tmp_path / "results/clip.mp4", iter(frames), fps=Fraction(rate))
    done = evaluate("score", tmp_path / "results", "--sources", tmp_path / "tasks",
                    "--instruction", "x", "--metrics", "flicker")  # fmt: skip
    if fits:
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 2
        assert f"results/clip.mp4 has {rate}.00 frames a second, its source" in done.stderr
        assert "tasks/clip.mp4 has 24.00; wanted the same rate" in done.stderr


def test_a_network_that_cannot_be_had_is_explained(root: Path) -> None:
    done, _ = score(root, "--metrics", "dino", "--dino", "nobody/no-such-network")
    assert done.exit_code == 2
    assert "nobody/no-such-network cannot be loaded" in done.stderr
    assert "--dino" in done.stderr and "--metrics" in done.stderr


def test_files_that_are_no_weights_are_explained(root: Path, clip_folder: Path) -> None:
    (root / "empty").write_bytes(b"")
    save_file({"other": np.zeros(3, np.float32)}, root / "other")
    save_file({"weight": np.zeros((1, 7), np.float32), "bias": np.zeros(1, np.float32)}, root / "7")
    for metric, option, file, message in (
        ("aesthetic", "--aesthetic-head", "none", "No such file"),
        ("aesthetic", "--aesthetic-head", "empty", "header too small"),
        ("aesthetic", "--aesthetic-head", "other", "holds other; wanted weight and bias"),
        ("aesthetic", "--aesthetic-head", "7", "12 features for a head of 7"),
        ("lpips", "--vgg", "empty", "header too small"),
        ("lpips", "--vgg", "other", "loading state_dict for Vgg16"),
    ):
        done, _ = score(root, "--metrics", metric, "--clip", clip_folder, option, root / file,
                        "--truths", root / "truths")  # fmt: skip
        assert done.exit_code == 2, done.output
        assert f"{root / file} cannot be used" in done.stderr
        assert message in done.stderr and option in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "clp"], "unknown metric clp; known are clip, dino"),
        (["--metrics", "psnr"], "psnr needs truths; pass --truths"),
        (["--metrics", "flicker"], "flicker needs clips"),
        (["--metrics", "viescore"], "viescore needs judge; pass --judge MODEL"),
        (["--metrics", "motion", "--instruction", "x"], "needs clips"),
        (["--metrics", "aesthetic"], "aesthetic needs aesthetic head; pass --aesthetic-head FILE"),
        (["--judge", "a", "--vlm", "b"], "wanted either --judge NAME"),
        (["--judge", "a", "--endpoint", "host"], "wanted an address such as"),
        (["--motion", "up"], "--motion up: wanted edit_to_src, symmetric_mean, symmetric_sum"),
    ],
)
def test_wrong_options(
    root: Path, dino_folder: Path, arguments: list[str], message: str
) -> None:  # fmt: skip
    if "--judge" in arguments or "--motion" in arguments:
        arguments = ["--metrics", "viescore" if "--judge" in arguments else "dino",
                     "--dino", str(dino_folder), *arguments]  # fmt: skip
    done, _ = score(root, *arguments)
    assert done.exit_code == 2 and message in done.stderr


def test_folders_that_do_not_fit(root: Path) -> None:
    (root / "third").mkdir()
    done = evaluate("score", root / "third", "--sources", root / "tasks", "--metrics", "dino")
    assert done.exit_code == 2 and "has no result of any task" in done.stderr
    picture(root / "third/z.png", 0)
    done = evaluate("score", root / "third", "--sources", root / "tasks", "--metrics", "dino")
    assert "it holds z and the like; wanted a, ..." in done.stderr
    picture(root / "third/a.png", 0)
    picture(root / "third/a.jpg", 0)
    done = evaluate("score", root / "third", "--sources", root / "tasks", "--metrics", "dino")
    assert "a: a.jpg and a.png in" in done.stderr


def test_methods_get_names_that_differ(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("x/byg", "y/byg", "kontext"))
    assert list(short_names([a, b, c]).values()) == ["x/byg", "y/byg", "kontext"]
    assert short_names([a]) == {a: "byg"}
    with pytest.raises(DataError, match="named twice"):
        methods_of([a, a], {})


def test_metrics_are_listed() -> None:
    done = evaluate("metrics")
    assert done.exit_code == 0
    assert all(name in done.output for name in ("clip_dir", "recall@1", "imgedit", "viescore"))
