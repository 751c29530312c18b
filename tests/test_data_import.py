"""What other trainers keep becomes tuples or style folders, and no path leads astray."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from cli_runs import byg
from data_sets import rows
from PIL import Image
from typer.testing import Result

from byg_train.config import DataConfig
from byg_train.data.items import load_items


def save(path: Path, caption: str | None = None, colour: str = "teal") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    for word in words:
        assert word in result.stderr, result.stderr


def lines(path: Path, *objects: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")


# ---------------------------------------------------------------- ai-toolkit


def test_an_ai_toolkit_folder_is_referred_to_where_it_lies(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "a  ball\n")
    save(tmp_path / "sub" / "_MG_1.jpg", "a \u00fcber-bus")
    save(tmp_path / "_controls" / "a.depth.jpg")
    save(tmp_path / ".hidden" / "b.png")
    (tmp_path / ".aitk_size.json").write_text("{}")
    result = byg("data", "import", tmp_path, "--from", "ai-toolkit")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path) == [
        {"file_name": "a.png", "src_caption": "a ball"},
        {"file_name": "sub/_MG_1.jpg", "src_caption": "a \u00fcber-bus"},
    ]
    assert "2 of them have a caption and lack the other texts" in result.output
    refused(byg("data", "import", tmp_path, "--from", "ai-toolkit"), "already there", "--force")
    assert byg("data", "import", tmp_path, "--from", "ai-toolkit", "--force").exit_code == 0
    assert (tmp_path / "metadata.jsonl.bak").exists()


@pytest.mark.parametrize("style", ["..", ".", ".hidden", "a/b", "a\\b", ""])
def test_a_style_is_a_folder_inside_the_output(tmp_path: Path, style: str) -> None:
    save(tmp_path / "in" / "a.png", "a ball")
    words = ("--from", "ai-toolkit", "--output", tmp_path / "out", "--style", style)
    refused(byg("data", "import", tmp_path / "in", *words), "wanted the name of a folder")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_captions_of_a_folder_are_found_as_everywhere(tmp_path: Path) -> None:
    for name in ("a.caption", "b.TXT", "c.png.txt", "d.Caption"):
        save(tmp_path / "in" / f"{name[0]}.png")
        (tmp_path / "in" / name).write_text(f"a ball in {name}")
    result = byg(
        "data", "import", tmp_path / "in", "--from", "ai-toolkit", "--output", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert [row["src_caption"][-5:] for row in rows(tmp_path / "out")] == [
        "ption",
        "b.TXT",
        "g.txt",
        "ption",
    ]


def test_two_imports_become_style_folders_that_train(tmp_path: Path) -> None:
    for style, words in (("photo", "a man"), ("toon", "a dog")):
        for i in range(2):
            save(tmp_path / f"from {style}" / f"part{i}" / "1.png", f"{words} {i}", "teal")
        source = tmp_path / f"from {style}"
        words = ["--from", "ai-toolkit", "--output", tmp_path / "data", "--style", style]
        for _ in range(2):  # the same again does no harm
            result = byg("data", "import", source, *words)
            assert result.exit_code == 0, result.output
        assert f"--data {tmp_path / 'data'}" in result.output
    items = load_items(DataConfig(path=tmp_path / "data", holdout=0), multiple=16).train
    assert sorted((i.path.parent.name, i.path.name, i.src_caption) for i in items) == [
        ("photo", "part0_1.png", "a man 0, photo style"),
        ("photo", "part1_1.png", "a man 1, photo style"),
        ("toon", "part0_1.png", "a dog 0, toon style"),
        ("toon", "part1_1.png", "a dog 1, toon style"),
    ]


def test_missing_captions_stop_the_import_or_are_dropped(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", "a ball")
    save(tmp_path / "in" / "b.png")
    save(tmp_path / "in" / "c.png", "  ")
    words = ["data", "import", tmp_path / "in", "--from", "ai-toolkit", "--output", tmp_path / "o"]
    refused(byg(*words), "b.png: no caption", "c.png: no caption", "--drop")
    assert not (tmp_path / "o").exists()
    result = byg(*words, "--drop")
    assert result.exit_code == 0 and "left out: b.png" in result.stderr
    assert [row["file_name"] for row in rows(tmp_path / "o")] == ["a.png"]
    assert (tmp_path / "o" / "a.png").read_bytes() == (tmp_path / "in" / "a.png").read_bytes()


@pytest.mark.slow
def test_two_files_for_one_place_are_told(tmp_path: Path) -> None:
    save(tmp_path / "in" / "x" / "a.png", "a ball")
    save(tmp_path / "in" / "x_a.png", "a bus", "red")
    words = ["--from", "ai-toolkit", "--output", tmp_path / "o"]
    refused(byg("data", "import", tmp_path / "in", *words, "--style", "ink"), "x_a.png: a second")
    assert byg("data", "import", tmp_path / "in", *words, "--style", "ink", "--drop").exit_code == 0
    assert len(list((tmp_path / "o" / "ink").glob("*.png"))) == 1
    # Nor is a file overwritten that is there already.
    save(tmp_path / "o" / "x_a.png", colour="blue")
    refused(byg("data", "import", tmp_path / "in", *words), "is another file")
    assert not (tmp_path / "o" / "metadata.jsonl").exists()


# ---------------------------------------------------------------- musubi-tuner


def test_a_musubi_config_with_folders_and_lines(tmp_path: Path) -> None:
    save(tmp_path / "cats" / "1.png", "unread").with_suffix(".cap").write_text("a cat")
    save(tmp_path / "cats" / "deeper" / "2.png")
    save(tmp_path / "dogs" / "img" / "1.png", colour="red")
    dog = {"image_path": str(tmp_path / "dogs" / "img" / "1.png"), "caption": "a dog"}
    lines(tmp_path / "dogs" / "meta.jsonl", dog, {"image_path": "img/1.png", "caption": "it"})
    (tmp_path / "set.toml").write_text(
        f"""
        [general]
        resolution = [960, 544]
        caption_extension = ".cap"
        [[datasets]]
        image_directory = "{(tmp_path / "cats").as_posix()}"
        num_repeats = 3
        [[datasets]]
        image_jsonl_file = "dogs/meta.jsonl"
        cache_directory = "cache"
        """
    )
    words = ["data", "import", tmp_path / "set.toml", "--from", "musubi"]
    result = byg(*words, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    wanted = [
        {"file_name": "1/1.png", "src_caption": "a cat", "repeats": 3},
        {"file_name": "2/img/1.png", "src_caption": "a dog"},
        {"file_name": "2/img/1.png", "src_caption": "it"},
    ]
    assert rows(tmp_path / "out") == wanted
    with Image.open(tmp_path / "out" / "2" / "img" / "1.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 0, 0)
    # Referred to where they lie: everything is inside of the config's folder.
    assert byg(*words).exit_code == 0
    assert [row["file_name"] for row in rows(tmp_path)] == [
        "cats/1.png",
        "dogs/img/1.png",
        "dogs/img/1.png",
    ]


def test_what_musubi_has_and_cannot_become_tuples_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", "a cat")
    (tmp_path / "set.toml").write_text(
        """
        [[datasets]]
        image_directory = "a"
        control_directory = "b"
        [[datasets]]
        cache_directory = "clips"
        [[datasets]]
        image_directory = "nowhere"
        """
    )
    result = byg("data", "import", tmp_path, "--from", "musubi", "--output", tmp_path / "o")
    refused(
        result,
        "control_directory: pairs",
        "no files; wanted image_directory",
        "nowhere, which does not",
    )
    (tmp_path / "set.toml").write_text("[general]\n")
    refused(byg("data", "import", tmp_path, "--from", "musubi"), "no [[datasets]]")


def test_musubi_lines_lead_nowhere_out_unless_told(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret" / "1.png")
    paths = ["../secret/1.png", str(secret), "..\\secret\\1.png", "none.png", 3]
    lines(tmp_path / "set" / "m.jsonl", *({"image_path": p, "caption": "a"} for p in paths))
    words = ["data", "import", tmp_path / "set" / "m.jsonl", "--from", "musubi"]
    result = byg(*words, "--output", tmp_path / "o")
    refused(result, *(f"m.jsonl:{i}" for i in range(1, 6)), "--root")
    assert not (tmp_path / "o").exists()
    lines(tmp_path / "set" / "m.jsonl", {"image_path": str(secret), "caption": "a"})
    result = byg(*words, "--output", tmp_path / "o", "--root", tmp_path)
    assert result.exit_code == 0, result.output
    assert [row["file_name"] for row in rows(tmp_path / "o")] == ["secret/1.png"]


# ---------------------------------------------------------------- Hugging Face


def test_an_imagefolder_keeps_its_splits_and_our_fields(tmp_path: Path) -> None:
    save(tmp_path / "hub" / "train" / "x" / "1.png")
    save(tmp_path / "hub" / "validation" / "1.png", colour="red")
    full = {
        "src_caption": "a red ball",
        "tgt_caption": "a blue ball",
        "instruction": "Paint the ball blue",
        "reverse_instruction": "Paint the ball red",
    }
    lines(tmp_path / "hub" / "train" / "metadata.jsonl", {"file_name": "x/1.png", **full, "id": 7})
    lines(
        tmp_path / "hub" / "validation" / "metadata.jsonl",
        {"file_name": "1.png", **full, "edit_type": "colour"},
    )
    words = ["data", "import", tmp_path / "hub", "--from", "huggingface"]
    result = byg(*words, "--output", tmp_path / "o")
    assert result.exit_code == 0 and "data check" in result.output, result.output
    data = load_items(DataConfig(path=tmp_path / "o"), multiple=16)
    ((train,), (test,)) = data.train, data.test
    assert train.path == tmp_path / "o" / "train" / "x" / "1.png"
    assert train.texts == test.texts == tuple(full.values())
    assert (test.split, test.edit_type) == ("test", "colour")


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "..\\1.png", "", None, 3, "a.txt"])
def test_no_file_name_leads_out_of_its_folder(tmp_path: Path, name: object) -> None:
    save(tmp_path / "1.png")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "a.txt").touch()
    lines(tmp_path / "hub" / "metadata.jsonl", {"file_name": name, "text": "a ball"})
    words = ["--from", "huggingface", "--output", tmp_path / "o"]
    refused(byg("data", "import", tmp_path / "hub", *words), "metadata.jsonl:1")
    assert not (tmp_path / "o").exists()


def test_the_caption_column_is_found_or_named(tmp_path: Path) -> None:
    save(tmp_path / "hub" / "1.png")
    fields = {"file_name": "1.png", "text": "by text", "prompt": "by prompt"}
    lines(tmp_path / "hub" / "metadata.jsonl", fields)
    words = ["data", "import", tmp_path / "hub", "--from", "huggingface", "--output"]
    assert byg(*words, tmp_path / "a").exit_code == 0
    assert rows(tmp_path / "a") == [{"file_name": "1.png", "src_caption": "by text"}]
    assert byg(*words, tmp_path / "b", "--caption-key", "prompt").exit_code == 0
    assert rows(tmp_path / "b") == [{"file_name": "1.png", "src_caption": "by prompt"}]
    refused(byg(*words, tmp_path / "c", "--caption-key", "none"), "no caption")


def png(colour: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (20, 20), colour).save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
def test_pictures_inside_of_parquet_files(tmp_path: Path) -> None:
    """As datasets writes them: a struct of bytes and path, a shard for each part."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def shard(name: str, pictures: list[bytes | None]) -> None:
        cells = [{"bytes": data, "path": "../../evil.png"} for data in pictures]
        table = pa.table({"image": cells, "text": [f"ball {i}" for i in range(len(cells))]})
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "hub" / "data" / name)

    train = [png("red")] * 39 + [png("blue")]
    shard("train-00000-of-00001.parquet", train)
    shard("test-00000-of-00001.parquet", [png("lime")])
    words = ["data", "import", tmp_path / "hub", "--from", "huggingface"]
    refused(byg(*words), "a picture inside a table", "--output DIR")
    refused(byg(*words, "--output", tmp_path / "o", "--image-key", "img"), "image, text")
    result = byg(*words, "--output", tmp_path / "o")
    assert result.exit_code == 0, result.output
    told = rows(tmp_path / "o")
    assert len(told) == 41 and told[0]["split"] == "test" and told[1]["split"] == "train"
    assert told[40] == {
        "file_name": "train-00000-of-00001-000040.png",
        "src_caption": "ball 39",
        "split": "train",
    }
    assert (tmp_path / "o" / told[40]["file_name"]).read_bytes() == png("blue")
    shard("test-00000-of-00001.parquet", [png("lime"), None, b"no picture"])
    result = byg(*words, "--output", tmp_path / "o2")
    refused(result, "row 2: no picture in 'image'", "row 3: no picture")
    (tmp_path / "hub" / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    refused(byg(*words, "--output", tmp_path / "o2"), "cannot be read")


def test_unknown_kinds_and_empty_sources(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    refused(byg("data", "import", tmp_path / "in", "--from", "musubbi"), "did you mean 'musubi'")
    refused(byg("data", "import", tmp_path / "in", "--from", "musubi"), "found none")
    refused(byg("data", "import", tmp_path / "in", "--from", "ai-toolkit"), "no pictures")
    refused(byg("data", "import", tmp_path / "in", "--from", "huggingface"), "metadata.jsonl")
    refused(byg("data", "import", tmp_path / "none", "--from", "musubi"), "does not exist")
    words = ["--from", "ai-toolkit", "--style", "x"]
    refused(byg("data", "import", tmp_path / "in", *words), "--style needs --output")
    words = ["--from", "ai-toolkit", "--style", "../x", "--output", tmp_path / "o"]
    refused(byg("data", "import", tmp_path / "in", *words), "name of a folder")


def test_a_relative_folder_is_looked_for_where_the_trainers_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """musubi-tuner and ai-toolkit count from the working directory; most people from the file."""
    save(tmp_path / "here" / "pics" / "a.png", "a ball")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "d.toml").write_text('[[datasets]]\nimage_directory = "pics"\n')
    job = {"config": {"process": [{"datasets": [{"folder_path": "pics"}]}]}}
    (tmp_path / "sets" / "job_config.json").write_text(json.dumps(job))
    monkeypatch.chdir(tmp_path / "here")
    caplog.set_level("INFO", "byg_train")
    for kind, name in (("musubi", "d.toml"), ("ai-toolkit", "job_config.json")):
        source, output = tmp_path / "sets" / name, tmp_path / f"out {kind}"
        assert byg("data", "import", source, "--from", kind, "--output", output).exit_code == 0
        assert [row["src_caption"] for row in rows(output)] == ["a ball"]
        assert f"pics is {tmp_path / 'here' / 'pics'} (and not" in caplog.text
    monkeypatch.chdir(tmp_path)
    refused(
        byg("data", "import", source, "--from", "ai-toolkit"), "folder_path 'pics'", str(tmp_path)
    )
