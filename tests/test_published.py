"""Benchmarks as folders of tasks: GEdit's parquet, ImgEdit's list and archive, style folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gedit import gedit_folder, picture_bytes
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.data import DataError
from byg_train.evaluate import published
from byg_train.evaluate.style_tasks import write_style_tasks
from byg_train.evaluate.tasks import Task, read_tasks
from byg_train.media.formats import MEDIA

EDITS = {
    "1082": {"id": "animal/1.jpg", "prompt": "Make it smooth.", "edit_type": "adjust"},
    "1068": {"id": "animal/1.jpg", "prompt": "Make it dark.", "edit_type": "adjust"},
    "673": {"id": "style/2.jpg", "prompt": "As a woodcut.", "edit_type": "style"},
}


def imgedit_folder(root: Path, name: str = "singleturn.json") -> Path:
    for seed, picture in enumerate(("animal/1.jpg", "style/2.jpg")):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).write_bytes(picture_bytes(seed, "jpeg"))
    (root / name).write_text(json.dumps(EDITS))
    return root


def tasks_in(folder: Path) -> dict[str, Task]:
    problems: list = []
    tasks = read_tasks(folder, MEDIA, None, problems)
    assert not problems
    return tasks


# ---------------------------------------------------------------- GEdit-Bench


def test_gedit_as_tasks(tmp_path: Path) -> None:
    source = gedit_folder(tmp_path / "gedit")
    number = published.write_tasks(published.gedit(str(source), "en"), tmp_path / "tasks")
    tasks = tasks_in(tmp_path / "tasks")
    assert number.total() == len(tasks) == 3
    one = tasks["fullset/subject-add/en/key1"]  # as the benchmark's own scorer calls results
    assert (one.instruction, one.group, one.intersection) == ("en subject-add", "subject-add", True)
    assert not tasks["fullset/text_change/en/key2"].intersection
    assert one.source.name == "key1_SRCIMG.png"
    wanted = Image.open(io.BytesIO(picture_bytes(1, "jpeg"))).convert("RGB")
    assert np.array_equal(np.array(Image.open(one.source)), np.array(wanted))
    kept = tasks["fullset/background_change/en/key0"].source.read_bytes()
    assert kept == picture_bytes(0)  # a PNG stays as it is


def test_gedit_in_chinese(tmp_path: Path) -> None:
    source = gedit_folder(tmp_path / "gedit")
    published.write_tasks(published.gedit(str(source), "cn"), tmp_path / "tasks")
    assert "fullset/text_change/cn/key2" in tasks_in(tmp_path / "tasks")
    with pytest.raises(DataError, match="language de: GEdit-Bench has en and cn"):
        next(published.gedit(str(source), "de"))


def test_what_is_not_gedit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no parquet files"):
        next(published.gedit(str(tmp_path / "empty"), "en"))
    pq.write_table(pa.table({"key": ["a"], "instruction": ["b"]}), tmp_path / "empty/a.parquet")
    with pytest.raises(DataError, match="lacks the columns input_image, instruction_language"):
        next(published.gedit(str(tmp_path / "empty"), "en"))
    (tmp_path / "empty/a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match="cannot be read"):
        next(published.gedit(str(tmp_path / "empty"), "en"))


def test_a_broken_picture_leaves_no_half_folder(tmp_path: Path) -> None:
    source = gedit_folder(tmp_path / "gedit")
    file = next(source.rglob("*.parquet"))
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row["input_image"]["bytes"] = row["input_image"]["bytes"][:99]
    pq.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(DataError, match="is no picture"):
        published.write_tasks(published.gedit(str(source), "en"), tmp_path / "tasks")
    assert [path.name for path in tmp_path.iterdir()] == ["gedit"]


# ---------------------------------------------------------------- ImgEdit-Bench


@pytest.mark.parametrize(
    ("inside", "name"),
    [("", "basic_edit.json"), ("singleturn", "singleturn.json"),
     ("Benchmark/singleturn", "singleturn.json")],
)  # fmt: skip
def test_imgedit_from_a_folder(tmp_path: Path, inside: str, name: str) -> None:
    imgedit_folder(tmp_path / "imgedit" / inside, name)
    published.write_tasks(published.imgedit(str(tmp_path / "imgedit")), tmp_path / "tasks")
    _expect_imgedit(tmp_path / "tasks")


def _expect_imgedit(folder: Path) -> None:
    tasks = tasks_in(folder)
    assert set(tasks) == set(EDITS)
    assert tasks["1082"].source == tasks["1068"].source  # two edits of one picture
    assert (tasks["673"].instruction, tasks["673"].group) == ("As a woodcut.", "style")
    assert tasks["673"].source.read_bytes() == picture_bytes(1, "jpeg")


def test_imgedit_from_the_archive_of_the_hub(tmp_path: Path) -> None:
    root = imgedit_folder(tmp_path / "Benchmark/singleturn")
    with tarfile.open(tmp_path / "Benchmark.tar", "w") as tar:
        tar.add(root.parent, "Benchmark")
    archive = str(tmp_path / "Benchmark.tar")
    published.write_tasks(published.imgedit(archive), tmp_path / "tasks")
    _expect_imgedit(tmp_path / "tasks")


def test_what_is_not_imgedit(tmp_path: Path) -> None:
    root = imgedit_folder(tmp_path / "imgedit")
    (root / "style/2.jpg").unlink()
    with pytest.raises(DataError, match="names style/2.jpg, which is not beside it"):
        published.write_tasks(published.imgedit(str(root)), tmp_path / "tasks")
    (root / "singleturn.json").write_text(
        '{"1": {"id": "../secret", "prompt": "", "edit_type": ""}}'
    )
    with pytest.raises(DataError, match="leads out"):
        next(published.imgedit(str(root)))
    (root / "singleturn.json").write_text("[1]")
    with pytest.raises(DataError, match="is not what was expected"):
        next(published.imgedit(str(root)))
    (root / "singleturn.json").unlink()
    with pytest.raises(DataError, match="holds no singleturn.json or basic_edit.json"):
        next(published.imgedit(str(root)))
    (tmp_path / "a.tar").write_text("no tar")
    with pytest.raises(DataError, match="is no tar file"):
        next(published.imgedit(str(tmp_path / "a.tar")))


# ---------------------------------------------------------------- whole or not


def test_what_the_published_benchmarks_hold() -> None:
    """The numbers of their data cards and lists."""
    gedit, imgedit = published.WHOLE_GEDIT, published.WHOLE_IMGEDIT
    assert (gedit.edits, len(gedit.groups)) == (606, 11)
    assert (imgedit.edits, len(imgedit.groups)) == (737, 9)
    assert sum(imgedit.groups.values()) == imgedit.edits


def test_a_whole_benchmark_is_not_complained_of() -> None:
    imgedit = Counter(published.WHOLE_IMGEDIT.groups)
    assert published.unlike(published.WHOLE_IMGEDIT, imgedit) is None
    gedit = Counter(dict.fromkeys(published.WHOLE_GEDIT.groups, 50))  # the numbers are not known
    gedit["ps_human"] += 56
    assert published.unlike(published.WHOLE_GEDIT, gedit) is None


def test_what_differs_from_a_benchmark_is_told_by_task() -> None:
    imgedit = Counter(published.WHOLE_IMGEDIT.groups)
    imgedit["style"] -= 1
    imgedit["magic"] = 1
    told = published.unlike(published.WHOLE_IMGEDIT, imgedit)  # 737 all the same
    assert "(style 99 of 100, magic 1 of 0)" in told
    gedit = Counter(dict.fromkeys(published.WHOLE_GEDIT.groups, 50))
    assert published.unlike(published.WHOLE_GEDIT, gedit).startswith(
        "GEdit-Bench has 606 edits, and here are 550: scores"
    )


def test_fetch_warns_of_half_a_benchmark(tmp_path: Path) -> None:
    source = gedit_folder(tmp_path / "gedit")
    done = fetch("gedit", tmp_path / "tasks", "--from", source)
    assert done.exit_code == 0 and "3 tasks in" in done.output
    assert "GEdit-Bench has 606 edits, and here are 3 (color_alter 0 of some, " in done.stderr
    assert "subject-add" not in done.stderr
    source = imgedit_folder(tmp_path / "imgedit")
    done = fetch("imgedit", tmp_path / "more", "--from", source)
    assert done.exit_code == 0 and "3 tasks in" in done.output
    assert "737 edits, and here are 3 (extract 0 of 117, style 1 of 100, add" in done.stderr


# ---------------------------------------------------------------- style folders


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    """Two photos, one of them captioned, and one picture in each of two styles."""
    root = tmp_path / "styles"
    for seed, name in enumerate(("photo/a", "photo/b", "lego/c", "gta-v/d")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.png").write_bytes(picture_bytes(seed))
    (root / "photo/a.txt").write_text("a cat on a sofa.")
    return root


def test_styles_through_photos(styles: Path, tmp_path: Path) -> None:
    """Section 5.1.2: photo -> style and style -> photo, never style -> style."""
    assert write_style_tasks(styles, tmp_path / "tasks", through="photo") == 6
    tasks = tasks_in(tmp_path / "tasks")
    assert sorted(tasks) == [
        "gta-v/d--photo", "lego/c--photo",
        "photo/a--gta-v", "photo/a--lego", "photo/b--gta-v", "photo/b--lego",
    ]  # fmt: skip
    assert {t.group for t in tasks.values()} == {"photo → style", "style → photo"}
    one = tasks["photo/a--gta-v"]
    assert one.instruction == "Turn the picture into gta v style"
    assert (one.src_caption, one.tgt_caption) == (
        "a cat on a sofa, photo style",
        "a cat on a sofa, gta v style",
    )
    assert tasks["photo/b--lego"].src_caption == ""
    assert one.source.read_bytes() == picture_bytes(0)


def test_styles_that_are_only_edited_from(styles: Path, tmp_path: Path) -> None:
    """Section 5.1.1: 3d-cgi -> both, cartoon <-> photo."""
    write_style_tasks(styles, tmp_path / "tasks", to=["photo", "lego"])
    groups = sorted(t.group for t in tasks_in(tmp_path / "tasks").values())
    assert groups == [
        "gta-v → lego", "gta-v → photo", "lego → photo", "photo → lego", "photo → lego",
    ]  # fmt: skip


def test_unknown_styles(styles: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no style folder 'phto'; did you mean 'photo'"):
        write_style_tasks(styles, tmp_path / "tasks", through="phto")
    with pytest.raises(DataError, match="holds 0 style folders"):
        write_style_tasks(styles / "photo", tmp_path / "tasks")


# ---------------------------------------------------------------- the command


def fetch(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "fetch", *map(str, arguments)])


def test_fetch_says_what_comes_next(tmp_path: Path) -> None:
    source = gedit_folder(tmp_path / "gedit")
    done = fetch("gedit", tmp_path / "tasks", "--from", source)
    assert done.exit_code == 0, done.output
    assert "3 tasks in" in done.output
    assert "evaluate edit RESULTS --sources" in done.output
    again = fetch("gedit", tmp_path / "tasks", "--from", source)
    assert again.exit_code == 2 and "exists; choose a new folder" in again.stderr


@pytest.mark.parametrize("benchmark", ["gedit", "imgedit"])
def test_without_a_network_fetch_says_what_to_download(benchmark: str, tmp_path: Path) -> None:
    done = fetch(benchmark, tmp_path / "tasks", "--from", "nobody/nothing-of-this-name")
    assert done.exit_code == 2
    assert "nor can it be downloaded" in done.stderr
    assert "pass that folder with --from" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emu", "t"], "wanted gedit, imgedit, styles"),
        (["styles", "t"], "--from is missing"),
        (["gedit", "t", "--through", "photo"], "are for styles"),
    ],
)
def test_wrong_options_of_fetch(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = fetch(*arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not list(tmp_path.iterdir())
