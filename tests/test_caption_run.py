"""`data caption` against a real server, in whole runs."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import caption_runs
import pytest
from caption_runs import items, journal_lines, pictures, run
from chat_server import Answer, Asked, ChatServer, good_fields, moody, plain
from data_sets import rows
from PIL import Image

from byg_train.data.vlm import pipeline
from byg_train.data.vlm.folder import Folder
from byg_train.data.vlm.journal import Journal

ROOT = Path(__file__).parents[1]
key = caption_runs.key  # used by every test


# ---------------------------------------------------------------- one run


@pytest.mark.slow
def test_every_mood_of_models_and_servers_ends_in_tuples(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 66)
    with ChatServer(moody) as server:
        result = run(root, server, "--price-in", "2", "--price-out", "10")
        assert result.exit_code == 0
        assert server.most_at_once <= 8
    assert len(items(root)) == 66
    assert {row["edit_type"] for row in rows(root)} <= {
        kind for a in server.asked for kind in a.offered
    }
    answers = len(journal_lines(root))
    # 100 tokens of every question at 2 a million, and 10 of every answer at 10.
    assert f"{answers * 100} + {answers * 10} tokens, cost {answers * 3e-4:.2g}" in result.output
    assert "66 tuples" in result.output
    # The server said when to come back, and until then nobody came.
    for asked in server.asked:
        times = [a.time for a in server.asked if a.prompt == asked.prompt]
        if moody(asked, 0).status == 429:
            assert times[1] - times[0] >= 1
    stored = b"".join(p.read_bytes() for p in root.rglob("*") if p.is_file())
    assert b"sk-secret" not in stored
    assert {a.headers["authorization"] for a in server.asked} == {"Bearer sk-secret"}


def test_a_picture_is_shown_with_its_prompt(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 1)
    Image.new("RGB", (3000, 1500), (200, 30, 40)).save(root / "0.png")
    with ChatServer() as server:
        run(root, server, "--max-tokens", "77", "--temperature", "0.5")
    (asked,) = server.asked
    (root / "seen.jpg").write_bytes(asked.pictures[0])
    with Image.open(root / "seen.jpg") as seen:
        assert seen.size == (1024, 512)
        assert all(
            abs(a - b) < 4 for a, b in zip(seen.getpixel((9, 9)), (200, 30, 40), strict=True)
        )
    assert asked.body["max_tokens"] == 77
    assert asked.body["temperature"] == 0.5
    assert asked.body["messages"][0]["content"][0]["type"] == "image_url"


def test_a_dry_run_asks_and_writes_nothing(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 3)
    before = sorted(root.rglob("*"))
    result = run(root, None, "--dry-run")
    assert result.exit_code == 0
    assert "3 of 3 files" in result.output
    assert result.output.count("Answer with one JSON object") == 1
    assert "a car, number" in result.output
    assert sorted(root.rglob("*")) == before
    with ChatServer() as server:
        run(root, server, "--limit", "1")
        # What was shown is what is asked.
        assert server.asked[0].prompt in result.output


def test_a_limit_takes_a_sample_and_a_later_run_goes_on(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 12)
    with ChatServer() as server:
        result = run(root, server, "--limit", "4", "--price-in", "1e4")
        first = {a.key for a in server.asked}
        assert len(rows(root)) == len(first) == 4
        # By the four so far, 100 + 10 tokens each.
        told = "8 files beyond the --limit will take about 800 + 80 tokens, cost 8.00 more"
        assert told in result.output
        assert "3 files beyond" in run(root, server, "--limit", "9").output
        assert len(rows(root)) == 9
        result = run(root, server)
        assert "beyond" not in result.output and f"data check {root}" in result.output
    assert len(items(root)) == 12
    assert first != {"0", "1", "2", "3"}
    assert max(Counter(a.key for a in server.asked).values()) == 1


def test_unusable_answers_are_told_back_and_then_given_up(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 2)

    def stubborn(asked: Asked, before: int) -> Answer:
        return plain(asked) if asked.key == "0" else Answer("I cannot say.")

    with ChatServer(stubborn) as server:
        result = run(root, server, "--tries", "2")
        assert result.exit_code == 0
        assert "1 of 2 files have no tuple" in result.output
        assert (
            "1.png: 2 unusable answers, the last: it has no JSON object: 'I cannot" in result.output
        )
        second = [a for a in server.asked if a.key == "1"][1]
        assert "could not be used: it has no JSON object: 'I cannot say.'" in second.prompt
        # The tries are used up; with more of them, or with another model, there are more.
        run(root, server, "--tries", "2")
        assert len(server.asked) == 3
        run(root, server, "--tries", "3")
        assert len(server.asked) == 4
    with ChatServer() as server:
        run(root, server, "--model", "other")
    assert len(items(root)) == 2


def test_stylised_pictures_are_sometimes_forced_to_photographs(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    pictures(root / "anime", 40)
    pictures(root / "photo", 10, 40)
    with ChatServer() as server:
        run(root, server, "--style-folders")
    forced = [a for a in server.asked if a.offered == ["style_change"]]
    assert 2 <= len(forced) <= 12
    assert all(int(a.key) < 40 for a in forced)
    assert all("The picture's style: anime" in a.prompt for a in server.asked if int(a.key) < 40)
    assert not any("The picture's style" in a.prompt for a in server.asked if int(a.key) >= 40)
    assert len(items(root)) == 50


def test_rows_that_are_there_stay_and_captions_in_them_are_used(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 3)
    mine = {"file_name": "0.png", "src_caption": "a", "tgt_caption": "b", "instruction": "c",
            "reverse_instruction": "d", "note": "by hand"}  # fmt: skip
    bare = {"file_name": "1.png", "text": "a bus, number 1", "style": "watercolor", "id": 7}
    manifest = root / "metadata.jsonl"
    manifest.write_text(f"{json.dumps(mine)}\n{json.dumps(bare)}\n")
    with ChatServer() as server:
        run(root, server)
        assert sorted(a.key for a in server.asked) == ["1", "2"]
        asked = next(a for a in server.asked if a.key == "1")
        assert "a bus, number 1" in asked.prompt
        assert "style: watercolor" in asked.prompt
        assert rows(root)[0] == mine
        assert rows(root)[1] | bare == rows(root)[1]
        # Someone corrects a text, then there are more pictures.
        manifest.write_text(manifest.read_text().replace("Paint the car blue", "Paint it all blue"))
        pictures(root, 1, 3)
        run(root, server)
    assert len(server.asked) == 3
    assert [row["instruction"] for row in rows(root)[1:]] == ["Paint it all blue"] * 2 + [
        "Paint the car blue"
    ]
    assert len(items(root)) == 4


def test_a_run_with_nothing_to_do_leaves_everything_alone(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 2)
    with ChatServer() as server:
        run(root, server)
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")}
        assert run(root, server).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")} == before
    assert len(server.asked) == 2


def test_a_picture_that_was_replaced_is_asked_about_again(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 3)
    manifest = root / "metadata.jsonl"
    with ChatServer() as server:
        run(root, server)
        for name in ("1.png", "2.png"):
            Image.new("RGB", (64, 64), "red").save(root / name)
            (root / name).with_suffix(".txt").write_text(f"a car, number 7{name[0]}")
        corrected = manifest.read_text().replace("a red car, number 2", "a car of mine")
        manifest.write_text(corrected)
        run(root, server)
    assert [a.key for a in server.asked[3:]] in (["71", "72"], ["72", "71"])
    # Of the texts that go with the former picture, only what a person wrote is kept.
    captions = [row["src_caption"] for row in rows(root)]
    assert captions == ["a red car, number 0", "a car of mine", "a red car, number 71"]


# ---------------------------------------------------------------- determinism


def ask_all(root: Path, server: ChatServer, concurrency: int, seed: int = 0) -> None:
    from byg_train.data.vlm.client import Endpoint

    async def ask() -> None:
        model = Endpoint(server.url, "m", key_variable="X", max_tokens=9, temperature=None,
                         retries=2, timeout=20)  # fmt: skip
        with Journal(root) as journal:
            captioner = pipeline.Captioner(model, journal, None, seed, concurrency, tries=3)
            await captioner.run(pipeline.ordered(Folder(root, False).to_ask(journal), seed))
        await model.close()

    asyncio.run(ask())


@pytest.mark.slow
def test_offers_depend_on_neither_concurrency_nor_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 10)
    dice = random.Random(5)

    def late(asked: Asked, before: int) -> Answer:
        return Answer(json.dumps(good_fields(asked)), delay=dice.random() * 0.02)

    found = []
    for name, concurrency, seed in (("one", 1, 0), ("many", 15, 0), ("other", 15, 1)):
        root = pictures(tmp_path / name, 45)
        with ChatServer(late) as server:
            ask_all(root, server, concurrency, seed)
            found.append({a.key: a.offered for a in server.asked})
            assert server.most_at_once <= concurrency
    assert found[0] == found[1]
    assert found[0] != found[2]
    # What was answered in the first windows is made up for in the last.
    assert len({tuple(sorted(types)) for types in found[0].values()}) > 20


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://x/v1"], "wanted either --endpoint URL with --model NAME"),
        (["--endpoint", "http://x/v1", "--model", "m", "--vlm", "y"], "wanted either"),
        ([], "wanted either"),
        (["--endpoint", "localhost:8000", "--model", "m"], "such as http://HOST/v1"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, options: list[str], message: str) -> None:
    result = run(pictures(tmp_path / "data", 1), None, *options)
    assert result.exit_code == 2
    assert message in result.output


def test_folders_that_cannot_be_captioned(tmp_path: Path) -> None:
    with ChatServer() as server:
        assert "holds no pictures and no clips" in run(tmp_path, server).output
        assert "does not exist" in run(tmp_path / "none", server).output
        root = pictures(tmp_path / "data", 1)
        (root / "metadata.jsonl").write_text('{"file_name": "0.png"}\n{"file_na')
        assert "metadata.jsonl:2" in run(root, server).output
        (root / "metadata.jsonl").unlink()
        (root / "metadata.csv").write_text("file_name\n0.png\n")
        assert "captions go to metadata.jsonl" in run(root, server).output
        assert not server.asked


@pytest.mark.parametrize("package", ["openai", "json_repair"])
def test_a_missing_package_is_told_before_anything_is_asked(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == package else real(name, *a)
    )
    with ChatServer() as server:
        result = run(pictures(tmp_path / "data", 1), server)
    assert result.exit_code == 2
    assert (
        f'needs {package}, which this Python does not have: pip install -e ".[vlm]"'
        in result.output
    )


@pytest.mark.slow
def test_training_needs_none_of_these_packages() -> None:
    code = ("import sys, byg_train.cli.data_caption, byg_train.data.items; "
            "print(*{m.split('.')[0] for m in sys.modules})")  # fmt: skip
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not set(loaded.split()) & {"openai", "json_repair", "transformers", "filelock"}
