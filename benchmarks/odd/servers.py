"""Answers of servers behind `data caption`: one odd answer, and the run goes on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.odd.case import Case, picture

GOOD = {
    "src_caption": "a red car in a street", "instruction": "Paint the car blue",
    "tgt_caption": "a blue car in a street", "reverse_instruction": "Paint the car red",
}  # fmt: skip
HTML = "<html><head><title>x</title></head><body><h1>502 Bad Gateway</h1>nginx</body></html>"


class Odd(NamedTuple):
    """What the server answers to the first question; `TUPLE` in it stands for a good answer."""

    body: str
    status: int = 200
    kind: str = "application/json"
    length: int = 0  # bytes more than there are: the connection breaks


def said(content: Any, finish: str = "stop", **more: Any) -> Odd:
    """A completion with this message."""
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Odd(json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))


def wrong(body: Any, status: int = 400) -> Odd:
    """An error with this body."""
    return Odd(body if isinstance(body, str) else json.dumps(body), status)


# One odd answer that holds a tuple all the same.
READ = {
    "content in parts": said([{"type": "text", "text": "TUPLE"}]),
    "content in several parts": said([{"type": "text", "text": "Here: "}, {"type": "text", "text": "TUPLE"}]),
    "content in bare strings": said(["TUPLE"]),
    "thoughts as a part": said([{"type": "thinking", "thinking": [{"text": "{}"}]}, {"type": "text", "text": "TUPLE"}]),
    "text with a value": said([{"type": "text", "text": {"value": "TUPLE", "annotations": []}}]),
    "output_text parts": said([{"type": "output_text", "text": "TUPLE"}]),
    "content as one part": said({"type": "text", "text": "TUPLE"}),
    "all in reasoning_content": said("", reasoning_content="TUPLE"),
    "all in reasoning": said(None, reasoning="TUPLE"),
    "thoughts beside": said("TUPLE", reasoning_content="{hm}"),
    "no usage, no id": Odd(json.dumps({"choices": [{"message": {"content": "TUPLE"}}]})),
    "an unknown finish": said("TUPLE", finish="eos_token"),
    "usage in words": Odd(json.dumps({"choices": [{"message": {"content": "TUPLE"}}], "usage": "much"})),
}  # fmt: skip
# One answer that holds none, and the words that must be told about it.
NONE = {
    "thoughts until the budget ended": (said("", "length", reasoning_content="hm"), "until its budget"),
    "thoughts in the text, cut": (said("<think>hm hm", "length"), "until its budget"),
    "a refusal as a part": (said([{"type": "refusal", "refusal": "I will not"}]), "I will not"),
    "the same without thoughts": (said(None, "length"), "--max-tokens"),
    "Gemini's MAX_TOKENS": (said("", "MAX_TOKENS"), "until its budget"),
    "empty content": (said(""), "no JSON object"),
    "null content": (said(None), "no JSON object"),
    "content of numbers": (said([1, None, {"x": 2}]), "no JSON object"),
    "a deep answer": (said("[" * 100_000), "no JSON object"),
    "cut JSON in the text": (said('{"edit_type": "add", "src_', "length"), "cut off"),
    "no choices": (Odd(json.dumps({"choices": []})), "no chat completion"),
    "choices null": (Odd(json.dumps({"choices": None})), "no chat completion"),
    "choices an object": (Odd(json.dumps({"choices": {"0": 1}})), "no chat completion"),
    "message null": (Odd(json.dumps({"choices": [{"message": None}]})), "no chat completion"),
    "a choice of text": (Odd(json.dumps({"choices": ["hello"]})), "no chat completion"),
    "a list": (Odd("[1, 2]"), "no chat completion"),
    "a string": (Odd('"busy"'), "no chat completion"),
    "nothing": (Odd(""), "no chat completion"),
    "truncated JSON": (Odd('{"choices": [{"mess'), "no chat completion"),
    "HTML with status 200": (Odd(HTML, 200, "text/html"), "502 Bad Gateway"),
    "a broken connection": (Odd('{"choices"', 200, "application/json", 500), "connection"),
    "an error in a 200": (Odd(json.dumps({"error": {"message": "out of memory"}})), "out of memory"),
    "OpenAI's error": (wrong({"error": {"message": "image too large"}}), "image too large"),
    "an error that is a text": (wrong({"error": "image too large"}), "image too large"),
    "FastAPI's detail": (wrong({"detail": "image too large"}, 422), "image too large"),
    "FastAPI's list": (wrong({"detail": [{"loc": ["body", "n"], "msg": "bad n"}]}, 422), "body.n: bad n"),
    "Ollama's message": (wrong({"message": "model runner crashed"}, 500), "model runner crashed"),
    "a list of errors": (wrong({"errors": [{"message": "first"}, {"message": "second"}]}), "first; second"),
    "a plain text": (wrong("CUDA out of memory", 500), "CUDA out of memory"),
    "an HTML page": (Odd(HTML, 502, "text/html"), "502 Bad Gateway nginx"),
    "no body": (wrong("", 500), "error 500, without a word"),
    "an unknown shape": (wrong({"code": 7, "why": "quota"}), "quota"),
    "null": (wrong("null"), "error 400"),
    "429": (wrong({"error": {"message": "slow down"}}, 429), "slow down"),
    "503": (wrong("overloaded", 503), "overloaded"),
    "403 for one picture": (wrong({"error": {"message": "blocked by policy"}}, 403), "blocked by policy"),
    "404 for one picture": (wrong({"error": "no such image"}, 404), "no such image"),
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers all questions well, but one."""

    def do_GET(self) -> None:
        """The list of models."""
        self._send(Odd('{"object": "list", "data": []}'), "")

    def do_POST(self) -> None:
        """A chat completion."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        kind = re.search(r'\\"edit_type\\": \\"(\w+)', asked)[1]
        self.server.asked += 1
        odd = self.server.odd if self.server.asked == 2 else said("TUPLE")
        self._send(odd, json.dumps({"edit_type": kind, **GOOD}))

    def _send(self, odd: Odd, answer: str) -> None:
        body = odd.body.replace("TUPLE", json.dumps(answer)[1:-1]).encode()
        self.send_response(odd.status)
        self.send_header("Content-Type", odd.kind)
        self.send_header("Content-Length", str(len(body) + odd.length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *parts: object) -> None:
        """Says nothing."""


def _caption(odd: Odd, root: Path) -> list[object]:
    """The first answer is good, the second odd, the third good."""
    for i in range(3):
        picture(root / f"{i}.png", i)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.odd, server.asked = odd, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    limits = ["--tries", 1, "--retries", 0, "--concurrency", 1]
    return ["data", "caption", root, "--endpoint", url, "--model", "m", *limits]


def _written(number: int, folder: Path, printed: str) -> str | None:
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return None if len(lines) == number else f"{len(lines)} tuples, wanted {number}: {printed}"


def cases() -> Iterator[Case]:
    for name, odd in READ.items():
        yield Case(f"read: {name}", partial(_caption, odd), 0, ("3 tuples",), partial(_written, 3))
    for name, (odd, words) in NONE.items():
        told = ("2 tuples", "1 of 3 files have no tuple", words)
        yield Case(f"told: {name}", partial(_caption, odd), 0, told, partial(_written, 2))
