"""What servers answer, in any shape, and what they say when they do not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from byg_train.data.vlm.replies import NoAnswerError, read_reply, server_words


def completion(content: object, finish: str = "stop", **more: object) -> dict:
    choice = {"message": {"content": content, **more}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


@pytest.mark.parametrize(
    "content",
    [
        "a cat",
        ["a cat"],
        [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}],
        [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "a cat"}],
        [{"type": "text", "text": {"value": "a cat"}}],
        {"type": "text", "text": "a cat"},
        [SimpleNamespace(type="text", text="a cat")],
        [{"type": "refusal", "refusal": "a cat"}],
    ],
)
def test_a_text_or_its_parts(content: object) -> None:
    assert read_reply(completion(content)) == ("a cat", False, 7, 3)


def test_thoughts_are_an_answer_unless_they_were_cut() -> None:
    assert read_reply(completion("", reasoning_content="a cat")).text == "a cat"
    assert read_reply(completion(None, reasoning="a cat")).text == "a cat"
    assert read_reply(completion("a dog", reasoning="a cat")).text == "a dog"
    assert read_reply(completion("", "length", reasoning_content="a cat")) == ("", True, 7, 3)


@pytest.mark.parametrize(
    "answer",
    [
        None, "busy", [], {}, {"choices": []}, {"choices": None}, {"choices": {"0": {}}},
        {"choices": ["a cat"]}, {"choices": [{"message": None}]},
    ],
)  # fmt: skip
def test_no_completion_is_no_answer(answer: object) -> None:
    with pytest.raises(NoAnswerError, match="no chat completion came back"):
        read_reply(answer)


def test_odd_usage_counts_nothing() -> None:
    for usage in (None, "much", {"prompt_tokens": "7", "completion_tokens": -1}):
        assert read_reply({**completion("a cat"), "usage": usage}) == ("a cat", False, 0, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "too large"}, "error 400: too large"),
        ("too large", "error 400: too large"),
        ({"detail": "too large"}, "error 400: too large"),
        ({"detail": [{"loc": ["body", "n"], "msg": "bad"}]}, "error 400: body.n: bad"),
        ({"errors": [{"message": "a"}, {"message": "b"}]}, "error 400: a; b"),
        ({"error": {"message": "too large"}}, "error 400: too large"),
        ({"code": 7}, 'error 400: {"code": 7}'),
        ("<html><head><title>x</title></head><h1>502</h1> Bad&nbsp;Gateway", "502 Bad Gateway"),
        (None, "error 400, without a word"),
        ("", "error 400, without a word"),
    ],
)
def test_a_server_keeps_its_own_words(body: object, words: str) -> None:
    assert words in server_words(SimpleNamespace(body=body, status_code=400))
