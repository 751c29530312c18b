"""`evaluate edit`, and the way from published data to a table; tiny models, a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from chat_server import ChatServer
from edit_folders import evaluate, make_tasks, marks
from gedit import gedit_folder
from PIL import Image
from typer.testing import Result

from byg_train.config import load_preset
from byg_train.editing.flowedit import FlowEditSettings
from byg_train.editing.opening import open_base
from byg_train.media.reader import read_media
from byg_train.media.writer import write_clip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tasks(tmp_path)
    return tmp_path


def edit(root: Path, lora: Path, *arguments: object) -> Result:
    return bare(root, "--lora", lora, *arguments)


def bare(root: Path, *arguments: object) -> Result:
    return evaluate("edit", root / "out", "--sources", root / "tasks", "--device", "cpu",
                    *arguments)  # fmt: skip


def images(folder: Path) -> dict[str, np.ndarray]:
    return {
        p.relative_to(folder).as_posix(): np.array(Image.open(p)) for p in folder.rglob("*.png")
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "flowedit", "text-to-image", "copy"])
def test_every_task_is_edited_at_its_size(root: Path, flux_lora: Path, method: str) -> None:
    done = edit(root, flux_lora, "--method", method)
    assert done.exit_code == 0, done.output
    assert "3 results in" in done.output and "3 of them new" in done.output
    found, sources = images(root / "out"), images(root / "tasks")
    assert found.keys() == sources.keys()
    assert {a.shape for a in found.values()} == {(16, 24, 3)}
    same = [np.array_equal(found[name], sources[name]) for name in found]
    assert all(same) if method == "copy" else not any(same)


@pytest.mark.parametrize("method", ["flowedit", "text-to-image"])
def test_baselines_need_no_lora(root: Path, tiny_base: Path, method: str) -> None:
    done = bare(root, "--method", method, "--model", tiny_base, "--steps", 2, "--resolution", 16)
    assert done.exit_code == 0, done.output
    found, sources = images(root / "out"), images(root / "tasks")
    assert found.keys() == sources.keys()
    assert not any(np.array_equal(found[name], sources[name]) for name in found)
    assert json.loads((root / "out/edits.json").read_text())["made"]["lora"] is None


def test_a_bare_base_samples_as_its_preset_says(tiny_base: Path) -> None:
    for model, name in ((str(tiny_base), "flux_edit"), ("world", "demo")):
        found, preset = open_base(model), load_preset(name)
        info, wanted = found.info, preset["sample"]
        assert (found.base.path, info.base) == (model, model)
        assert (info.sample_steps, info.sample_shift) == (wanted["steps"], wanted["shift"])
        assert info.guidance_sample == preset["guidance"]["sample"]
        assert info.resolution == preset["data"]["resolution"]
        assert found.base.text_len == preset["model"]["text_len"]


def test_a_copy_needs_no_model_and_takes_whatever_there_is(root: Path) -> None:
    films = iter([np.zeros((16, 16, 3), np.uint8)] * 5)
    write_clip(root / "tasks/d.mp4", films, fps=Fraction(8))
    row = json.dumps({"file_name": "d.mp4", "instruction": "x"})
    manifest = root / "tasks/metadata.jsonl"
    manifest.write_text(f"{manifest.read_text()}\n{row}")
    done = bare(root, "--method", "copy")
    assert done.exit_code == 0, done.output
    for name in ("a.png", "sub/c.png", "d.mp4"):
        assert (root / "out" / name).read_bytes() == (root / "tasks" / name).read_bytes()


def test_files_that_nobody_says_were_made_are_no_results(root: Path) -> None:
    """The sources above all: a later score would be that of a copy."""
    done = bare(root, "--method", "copy")
    assert done.exit_code == 0, done.output
    (root / "out" / "edits.json").unlink()
    again = bare(root, "--method", "copy")
    assert again.exit_code == 2 and "choose a new folder for the results" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--lora is missing"),
        (["--model", "world"], "--lora is missing"),
        (["--method", "flowedit"], "pass --model with one of FLUX, Z-Image, or --lora"),
    ],
)
def test_what_cannot_do_without_a_lora(root: Path, arguments: list[str], message: str) -> None:
    done = bare(root, *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not (root / "out").exists()


def test_text_to_image_asks_for_no_other_text(root: Path, flux_lora: Path) -> None:
    manifest = root / "tasks/metadata.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        del row["src_caption"]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    done = edit(root, flux_lora, "--method", "text-to-image", "--steps", 1)
    assert done.exit_code == 0, done.output
    del rows[1]["tgt_caption"]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    done = edit(root, flux_lora, "--method", "text-to-image", "--steps", 1)
    assert "b has none: write tgt_caption into" in done.stderr


def test_flowedit_takes_as_many_steps_as_it_is_told(root: Path, flux_lora: Path) -> None:
    manifest, found = root / "tasks/metadata.jsonl", []
    manifest.write_text(manifest.read_text().splitlines()[0])
    for steps in (2, 4):
        done = edit(root, flux_lora, "--method", "flowedit", "--steps", steps)
        assert done.exit_code == 0, done.output
        found.append(images(root / "out")["a.png"])
        shutil.rmtree(root / "out")
    assert not np.array_equal(*found)
    counts = {n: FlowEditSettings.of_family("flux", n).n_max for n in (1, 7, 14, 28, 50)}
    assert counts == {1: 1, 7: 6, 14: 12, 28: 24, 50: 43}
    assert (
        FlowEditSettings()
        == FlowEditSettings.of_family("flux")
        == FlowEditSettings.of_family("flux", 28)
    )


@pytest.mark.slow
def test_the_instruction_matters_and_editing_goes_on_where_it_was(
    root: Path, flux_lora: Path
) -> None:  # fmt: skip
    edit(root, flux_lora)
    first = images(root / "out")
    kept = (root / "out/b.png").stat().st_mtime_ns
    (root / "out/a.png").unlink()
    done = edit(root, flux_lora)
    assert "1 of them new" in done.output
    assert (root / "out/b.png").stat().st_mtime_ns == kept
    assert all(np.array_equal(a, b) for a, b in zip(first.values(), images(root / "out").values(),
                                                    strict=True))  # fmt: skip
    shutil.rmtree(root / "out")
    edit(root, flux_lora, "--instruction", "something else")
    other = images(root / "out")
    assert not np.array_equal(other["a.png"], first["a.png"])


def test_a_folder_is_not_filled_up_with_results_of_another_kind(
    root: Path, flux_lora: Path, tmp_path: Path
) -> None:  # fmt: skip
    assert edit(root, flux_lora, "--method", "text-to-image").exit_code == 0
    told = json.loads((root / "out/edits.json").read_text())
    assert (told["made"]["method"], told["made"]["seed"]) == ("text-to-image", 0)
    assert told["asked"]["sub/c"] == ["a blue thing on the grass"]
    (root / "out/a.png").unlink()
    kept = images(root / "out")
    for arguments, message in (
        (["--method", "text-to-image", "--seed", 1], "made otherwise (seed: 0 there, 1 now)"),
        (["--method", "flowedit"], "made otherwise (method: text-to-image there, flowedit now)"),
        (["--method", "copy"], "made otherwise (method: text-to-image there, copy now)"),
    ):
        done = edit(root, flux_lora, *arguments)
        assert done.exit_code == 2 and message in done.stderr, done.stderr
    manifest = root / "tasks/metadata.jsonl"
    manifest.write_text(manifest.read_text().replace("blue", "green"))
    done = edit(root, flux_lora, "--method", "text-to-image")
    assert "(b: ['a blue thing on the grass'] there, ['a green thing" in done.stderr
    assert images(root / "out").keys() == kept.keys()
    for path in (root / "out").rglob("*.png"):
        path.unlink()
    assert edit(root, flux_lora, "--method", "text-to-image", "--seed", 1).exit_code == 0


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, ["--method", "magic"], "--method magic: wanted lora, flowedit"),
        ("captions", ["--method", "flowedit"], "needs captions, and a has none"),
        ("clip", [], "edits pictures"),
    ],
)
def test_wrong_tasks(
    root: Path, flux_lora: Path, change: str | None, arguments: list[str], message: str
) -> None:  # fmt: skip
    manifest = root / "tasks/metadata.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    if change == "captions":
        del rows[0]["src_caption"]
    if change == "clip":
        write_clip(
            root / "tasks/d.mp4", iter([np.zeros((16, 16, 3), np.uint8)] * 5), fps=Fraction(8)
        )
        rows.append({"file_name": "d.mp4", "instruction": "x"})
    manifest.write_text("\n".join(map(json.dumps, rows)))
    done = edit(root, flux_lora, *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not (root / "out").exists()


@pytest.mark.parametrize("method", ["lora", "text-to-image", "flowedit"])
def test_clips_keep_their_size_and_length(
    tmp_path: Path, short_clip: Path, wan_lora: Path, method: str
) -> None:  # fmt: skip
    (tmp_path / "tasks").mkdir()
    shutil.copyfile(short_clip, tmp_path / "tasks/clip.mp4")
    row = {"file_name": "clip.mp4", "instruction": "Turn the video to cartoon style"}
    row |= {"src_caption": "a photo of a thing", "tgt_caption": "a cartoon of a thing"}
    (tmp_path / "tasks/metadata.jsonl").write_text(json.dumps(row))
    done = edit(tmp_path, wan_lora, "--method", method, "--steps", 1)
    if method == "flowedit":
        assert done.exit_code == 2 and "flowedit is for FLUX" in done.stderr
        return
    assert done.exit_code == 0, done.output
    source, result = read_media(short_clip), read_media(tmp_path / "out/clip.mp4")
    assert result.frames.shape == source.frames.shape and result.fps == pytest.approx(source.fps)
    assert np.abs(result.frames.astype(float) - source.frames).mean() > 5


@pytest.mark.slow
def test_from_the_published_data_to_table_3(root: Path, flux_lora: Path) -> None:
    """fetch, edit, score: GEdit-Bench's layout from a local copy, every step resumable."""
    source = gedit_folder(root / "gedit")
    tasks, results = root / "gedit-tasks", root / "byg"
    steps: list[Callable[[], Result]] = [
        lambda: evaluate("fetch", "gedit", tasks, "--from", source),
        lambda: evaluate(
            "edit", results, "--sources", tasks, "--lora", flux_lora, "--device", "cpu"
        ),
    ]
    for step in steps:
        done = step()
        assert done.exit_code == 0, done.output
    assert (results / "fullset/subject-add/en/key1.png").is_file()
    with ChatServer(marks) as server:
        done = evaluate("score", results, "--sources", tasks, "--metrics", "viescore",
                        "--judge", "j", "--endpoint", server.url)  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = [line.split("|")[1:-1] for line in done.output.splitlines() if line.startswith("|")]
    table = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert table["subject-add"] == ["1", "8.000", "6.000", "6.000", "4.000", "4.899", "4.90"]
    assert table["mean of groups"][5] == "4.899"
    assert "of the intersection" in table
