"""`data caption` against a real server, in whole runs: interrupted, killed, refused, resumed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import Answer, Asked, ChatServer, good_fields, moody, plain
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli import app
from byg_train.config import DataConfig
from byg_train.data.items import Item, load_items
from byg_train.data.vlm import pipeline
from byg_train.data.vlm.folder import Folder
from byg_train.data.vlm.journal import Journal

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("COLUMNS", "200")


def pictures(root: Path, number: int, first: int = 0) -> Path:
    """Small pictures, each with its number in a caption beside it."""
    root.mkdir(exist_ok=True)
    for i in range(first, first + number):
        Image.new("RGB", (20, 20), "teal").save(root / f"{i}.png")
        (root / f"{i}.txt").write_text(f"a car, number {i}")
    return root


def run(root: Path, server: ChatServer | None, *options: str) -> Result:
    where = ["--endpoint", server.url, "--model", "m"] if server else []
    command = ["data", "caption", str(root), *where, *options]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def items(root: Path) -> list[Item]:
    """What training reads."""
    return load_items(DataConfig(path=root, holdout=0), multiple=16).train


def rows(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]


def journal_lines(root: Path) -> list[dict[str, Any]]:
    found = []
    for line in (root / ".byg_caption" / "journal.jsonl").read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn
    return found


# ---------------------------------------------------------------- one run


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
    assert (
        f"{answers / 10:.1f} k + {answers / 100:.1f} k tokens, cost {answers * 3e-4:.2f}"
        in result.output
    )
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
        run(root, server, "--limit", "4")
        first = {a.key for a in server.asked}
        assert len(rows(root)) == len(first) == 4
        run(root, server, "--limit", "9")
        assert len(rows(root)) == 9
        run(root, server)
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


# ---------------------------------------------------------------- killed


def start(root: Path, server: ChatServer, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "byg_train", "data", "caption", str(root)]
    where = ["--endpoint", server.url, "--model", "m"]
    return subprocess.Popen(
        [*command, *where, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_at_random_points_nothing_is_lost_or_asked_twice(tmp_path: Path) -> None:
    root, whole = pictures(tmp_path / "data", 80), pictures(tmp_path / "whole", 80)
    dice, concurrency, met, errors = random.Random(11), 4, set(), []

    def deadly(asked: Asked, before: int) -> Answer:
        if len(server.asked) == kill_at:
            process.kill()
        answer = moody(asked, asked.key in met)
        met.add(asked.key)
        errors.extend([asked.key] if answer.status != 200 or answer.cut else [])
        headers = {"Retry-After": "0.1"} if answer.headers else {}
        return replace(answer, headers=headers, delay=dice.random() * 0.02)

    stored = b""
    with ChatServer(deadly) as server:
        for most in (30, 30, 30, None):
            before = len(server.asked)
            kill_at = before + dice.randrange(10, most) if most else None
            process = start(root, server, "--concurrency", str(concurrency))
            output = process.communicate()[0]
            assert process.returncode == (-signal.SIGKILL if most else 0), output
            # What was stored stays stored, byte for byte, and what it settled is not asked again.
            journal = (root / ".byg_caption" / "journal.jsonl").read_bytes()
            assert journal.startswith(stored)
            done = {
                row["file_name"] for row in map(json.loads, stored.splitlines()) if "result" in row
            }
            assert not done & {f"{a.key}.png" for a in server.asked[before:]}
            stored = journal[: journal.rfind(b"\n") + 1]
    prompts = Counter(a.prompt for a in server.asked)
    assert sum(n - 1 for n in prompts.values()) <= 3 * concurrency + len(errors)
    # A run that was never killed ends in the same texts.
    with ChatServer(moody) as server:
        assert run(whole, server).exit_code == 0
    assert (root / "metadata.jsonl").read_bytes() == (whole / "metadata.jsonl").read_bytes()
    assert len(items(root)) == 80


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
def test_ctrl_c_writes_what_is_there(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 30)

    def patient(asked: Asked, before: int) -> Answer:
        if len(server.asked) == 12:
            process.send_signal(signal.SIGINT)
        return replace(plain(asked), delay=2 if len(server.asked) >= 12 else 0)

    with ChatServer(patient) as server:
        process = start(root, server, "--concurrency", "2")
        output = process.communicate()[0]
        assert process.returncode == 130, output
    assert "The same command goes on from here" in output
    assert 10 <= len(items(root)) <= 11


# ---------------------------------------------------------------- what ends a run


def error(status: int, message: str, **headers: str) -> Answer:
    return Answer(status=status, raw=json.dumps({"error": {"message": message}}), headers=headers)


HOPELESS = {
    "wrong key": (error(401, "no such key"), 1, "refuses the key.*no such key"),
    "wrong model": (error(404, "no model m"), 1, "has no model 'm'.*no model m"),
    "no pictures": (error(400, "no pictures"), 20, "20 questions in a row.*no pictures"),
    "broken": (Answer(status=500, raw="oh"), 10, "5 questions in a row got no answer"),
    "another page": (Answer(raw="<p>", headers={"Content-Type": "text/html"}), 5, "no chat compl"),
    "no choices": (Answer(raw='{"choices": []}'), 5, "no chat completion"),
    "half of JSON": (Answer(raw="{"), 5, "no chat completion"),
    "connection": (Answer("x", cut=True), 10, "the connection broke"),
    "too slow": (Answer("x", delay=1), 10, "no answer within 0.3 s"),
    "too long a wait": (error(429, "tomorrow", **{"Retry-After": "86400"}), 5, "tomorrow"),
}


@pytest.mark.parametrize("what", HOPELESS)
def test_a_server_that_never_answers_ends_the_run(tmp_path: Path, what: str) -> None:
    answer, asked, message = HOPELESS[what]
    root = pictures(tmp_path / "data", 22)
    options = ["--timeout", "0.3"] if what == "too slow" else []
    with ChatServer(lambda question, before: answer) as server:
        result = run(root, server, "--concurrency", "1", "--retries", "1", *options)
        assert len(server.asked) == asked
    assert result.exit_code == 1
    assert re.search(message, result.output)
    assert "The same command goes on" in result.output
    # None of this counts as an answer: once the server is in health, all are asked.
    with ChatServer() as server:
        assert run(root, server).exit_code == 0
        assert len(server.asked) == 22


def test_nobody_listens(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 3)
    with ChatServer() as server:
        pass
    result = run(root, server)
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "is the server running?" in result.output


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 12)
    (root / "3.png").write_bytes(b"no picture")

    def picky(asked: Asked, before: int) -> Answer:
        return error(400, "unsafe") if asked.key == "7" else plain(asked)

    with ChatServer(picky) as server:
        result = run(root, server)
    assert result.exit_code == 0
    assert "2 of 12 files have no tuple" in result.output
    assert "3.png: it cannot be read" in result.output
    assert "unsafe" in result.output
    assert len(rows(root)) == 10


def test_pictures_that_a_server_refuses_do_not_stand_in_the_way(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 40)

    def strict(asked: Asked, before: int) -> Answer:
        return plain(asked) if len(server.asked) == 1 else error(400, "unsafe")

    with ChatServer(strict) as server:
        assert run(root, server, "--concurrency", "1").exit_code == 0
        assert len(server.asked) == 40


def test_a_server_that_wants_the_limit_under_its_newer_name(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 4)

    def new(asked: Asked, before: int) -> Answer:
        if "max_tokens" in asked.body:
            return error(400, "use max_completion_tokens")
        return plain(asked)

    with ChatServer(new) as server:
        assert run(root, server).exit_code == 0
    assert len(items(root)) == 4
    assert {a.body.get("max_completion_tokens") for a in server.asked} == {None, 8192}


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


def test_training_needs_none_of_these_packages() -> None:
    code = ("import sys, byg_train.commands.data_caption, byg_train.data.items; "
            "print(*{m.split('.')[0] for m in sys.modules})")  # fmt: skip
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not set(loaded.split()) & {"openai", "json_repair", "transformers", "filelock"}
