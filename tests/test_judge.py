"""A judge behind a real server: what it is asked, what is kept, what is never asked twice."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from chat_server import Answer, Asked, ChatServer
from PIL import Image

from byg_train.data.vlm.client import Endpoint, ModelError
from byg_train.evaluate.judge import FAILURES, SEED, TEMPERATURE, VlmJudge
from byg_train.evaluate.metrics import imgedit

RED, BLUE = Image.new("RGB", (12, 8), "red"), Image.new("RGB", (12, 8), "blue")
Questions = list[tuple[Sequence[Image.Image], str]]


def judge(url: str, file: Path, name: str = "a-judge") -> VlmJudge:
    model = Endpoint(
        url,
        name,
        key_variable="NO_SUCH_KEY",
        max_tokens=512,
        temperature=TEMPERATURE,
        retries=1,
        timeout=20,
        seed=SEED,
    )
    return VlmJudge(model, file)


def answers(one: VlmJudge, questions: Questions) -> list[str | None]:
    async def ask() -> list[str | None]:
        try:
            return [await one.ask(*question) for question in questions]
        finally:
            await one.model.close()

    return asyncio.run(ask())


def parrot(asked: Asked, before: int) -> Answer:
    """Says what it was asked, and how many pictures it saw."""
    return Answer(f"{asked.prompt} ({len(asked.pictures)})")


def test_what_goes_over_the_wire(tmp_path: Path) -> None:
    with ChatServer(parrot) as server:
        assert answers(judge(server.url, tmp_path / "j"), [([RED, BLUE], "Q")]) == ["Q (2)"]
    body = server.asked[0].body
    assert (body["model"], body["temperature"], body["seed"]) == ("a-judge", 0, 42)
    assert body["max_tokens"] == 512
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    url = parts[1]["image_url"]["url"]  # lossless: compression is no fault of the edit
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert (sent.size, sent.getpixel((0, 0))) == ((12, 8), (0, 0, 255))


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    questions: Questions = [([RED], "A"), ([RED, BLUE], "A"), ([BLUE], "A"), ([RED], "B")]
    with ChatServer(parrot) as server:
        first = answers(judge(server.url, tmp_path / "j"), [*questions, *questions])
        assert len(server.asked) == 4  # other pictures, and other words, are other questions
        again = judge(server.url, tmp_path / "j")
        assert answers(again, questions) == first[:4] == first[4:]
        assert len(server.asked) == 4
        other = answers(judge(server.url, tmp_path / "j", "another"), questions[:1])
        assert other == ["A (1)"] and len(server.asked) == 5
    assert len((tmp_path / "j").read_text().splitlines()) == 5


def test_a_torn_line_is_asked_again_and_harms_no_other(tmp_path: Path) -> None:
    file = tmp_path / "j"
    with ChatServer(parrot) as server:
        answers(judge(server.url, file), [([RED], "A"), ([RED], "B")])
        file.write_bytes(file.read_bytes()[:-20])
        answers(judge(server.url, file), [([RED], "A"), ([RED], "B"), ([RED], "C")])
        assert [each.prompt for each in server.asked] == ["A", "B", "B", "C"]
        answers(judge(server.url, file), [([RED], "A"), ([RED], "B"), ([RED], "C")])
        assert len(server.asked) == 4


def test_silence_is_counted_and_asked_again_by_the_next_run(tmp_path: Path) -> None:
    mute = True

    def answer(asked: Asked, before: int) -> Answer:
        refuses = mute and asked.prompt == "A"
        return Answer(status=400, raw='{"error": "no"}') if refuses else parrot(asked, before)

    with ChatServer(answer) as server:
        one = judge(server.url, tmp_path / "j")
        assert answers(one, [([RED], "A"), ([RED], "B")]) == [None, "B (1)"]
        assert one.silent == 1
        mute = False
        assert answers(judge(server.url, tmp_path / "j"), [([RED], "A")]) == ["A (1)"]


def test_an_answer_that_was_cut_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    """Half of it tells nothing now, and a run with more tokens shall get a whole one."""
    finish = "length"
    with ChatServer(lambda a, n: Answer(a.prompt, finish=finish)) as server:
        one = judge(server.url, tmp_path / "j")
        assert answers(one, [([RED], "A")]) == [None]
        assert one.cut == 1 and not (tmp_path / "j").exists()
        finish = "stop"
        for _ in range(2):
            one = judge(server.url, tmp_path / "j")
            assert answers(one, [([RED], "A")]) == ["A"]
            assert one.cut == 0 and len(server.asked) == 2


def test_a_model_that_lets_nobody_choose_its_temperature(tmp_path: Path) -> None:
    def answer(asked: Asked, before: int) -> Answer:
        if "temperature" in asked.body:
            return Answer(status=400, raw='{"error": {"message": "Unsupported: temperature"}}')
        return parrot(asked, before)

    with ChatServer(answer) as server:
        one = judge(server.url, tmp_path / "j")
        assert answers(one, [([RED], "A"), ([RED], "B")]) == ["A (1)", "B (1)"]
        assert ["temperature" in each.body for each in server.asked] == [True, False, False]


def test_a_server_that_only_fails_ends_the_run(tmp_path: Path) -> None:
    with ChatServer(lambda a, n: Answer(status=400, raw='{"error": "no"}')) as server:
        questions = [([RED], str(i)) for i in range(9)]
        with pytest.raises(ModelError, match=f"{FAILURES} questions in a row got no answer"):
            answers(judge(server.url, tmp_path / "j"), questions)
        assert len(server.asked) == FAILURES
    assert not (tmp_path / "j").exists()


# ---------------------------------------------------------------- ImgEdit's marks


@pytest.mark.parametrize(
    "answer",
    [
        "Brief reasoning: fine.\nPrompt compliance: 4\nVisual seamlessness: 3\nDetail fidelity: 2",
        "<think>Prompt compliance: 1</think>\n"
        "**Prompt Compliance**: 4\n- Visual Seamlessness: 3/5\nPhysical & Detail Fidelity: 2.",
        "Shape: 1\nColour: 1\nPrompt compliance: 4\nVisual seamlessness: 3\nDetail fidelity: 2",
    ],
)
def test_three_marks_are_read_from_what_models_say(answer: str) -> None:
    assert imgedit.read_marks(answer) == (4, 3, 2)


@pytest.mark.parametrize(
    "answer",
    ["", "4, 3, 2", "Prompt compliance: 4\nVisual seamlessness: 3",
     "Prompt compliance: 6\nVisual seamlessness: 3\nDetail fidelity: 2",
     "Prompt compliance: 4.5\nVisual seamlessness: 3\nDetail fidelity: 2",
     "<think>First thoughts.\nPrompt compliance: 1\nVisual seamlessness: 2\nDetail fidelity: 3"],
)  # fmt: skip
def test_what_is_not_three_marks_is_missing(answer: str) -> None:
    assert imgedit.read_marks(answer) is None


def test_every_type_has_its_own_question() -> None:
    asked: list[str] = []

    async def ask(pictures: Sequence[Image.Image], question: str) -> str:
        asked.append(question)
        assert [picture.getpixel((0, 0)) for picture in pictures] == [(255, 0, 0), (0, 0, 255)]
        return "A: 5\nB: 4\nC: 3"

    async def all_types() -> list[float | None]:
        return [await imgedit.judge_edit(ask, RED, BLUE, "Do {it}", k) for k in imgedit.TYPES]

    assert asyncio.run(all_types()) == [4.0] * 9
    assert len(set(asked)) == 9
    assert all("Instruction: Do {it}\n" in question for question in asked)


def test_a_second_question_then_the_marks_are_missing() -> None:
    said = iter(["hm", "A: 3\nB: 3\nC: 3", "hm", "hm", json.dumps("never")])

    async def ask(pictures: Sequence[Image.Image], question: str) -> str:
        return next(said)

    async def twice() -> list[float | None]:
        return [await imgedit.judge_edit(ask, RED, BLUE, "x", "add") for _ in range(2)]

    assert asyncio.run(twice()) == [3.0, None]
