"""A real HTTP server that speaks the OpenAI chat protocol and answers as real models do: badly."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A question as it arrived."""

    key: str  # the number of its picture, which the caption beside the picture tells
    prompt: str
    pictures: list[bytes]
    body: dict[str, Any]
    headers: dict[str, str]  # names in lower case
    time: float  # seconds, of a clock that only goes forward

    @property
    def again(self) -> bool:
        """Whether an earlier answer was refused."""
        return "An earlier answer could not be used" in self.prompt

    @property
    def offered(self) -> list[str]:
        """The edit types to choose from."""
        line = re.search(r'"edit_type": (.*)', self.prompt)
        return re.findall(r'"(\w+)"', line[1]) if line else []


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    text: str | None = ""
    finish: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None  # a body of its own
    delay: float = 0  # seconds
    cut: bool = False  # the connection breaks amid the answer


def good_fields(asked: Asked) -> dict[str, str]:
    """A usable tuple; the same question always gets the same one."""
    number = int(hashlib.sha256(asked.key.encode()).hexdigest()[:8], 16)
    return {
        "edit_type": asked.offered[number % len(asked.offered)],
        "src_caption": f"a red car, number {asked.key}",
        "instruction": "Paint the car blue",
        "tgt_caption": f"a blue car, number {asked.key}",
        "reverse_instruction": "Paint the car red",
    }


def plain(asked: Asked) -> Answer:
    """What was asked for: of a clip its caption, else a tuple."""
    if asked.offered:
        return Answer(json.dumps(good_fields(asked)))
    fields = {"caption": f"a car drives by, number {asked.key}"}
    if '"style": ' in asked.prompt:
        fields["style"] = "Photo Realistic"
    return Answer(json.dumps(fields))


def _changed(asked: Asked, **fields: Any) -> str:
    return json.dumps({**good_fields(asked), **fields})


# What models say at first; told what was wrong, they do better. These can be used as they are:
USABLE: dict[str, Callable[[Asked], str]] = {
    "plain": lambda a: _changed(a),
    "thoughts": lambda a: f'<think>{{"edit_type": "add"}} no...</think>\n{_changed(a)}',
    "thoughts begun in the prompt": lambda a: f"hm {{a}}</think>{_changed(a)}",
    "fence": lambda a: f"```json\n{_changed(a)}\n```",
    "prose around": lambda a: f"Sure {{happily}}!\n\n{_changed(a)}\n\nDoes that {{help}}?",
    "list of one": lambda a: f"[{_changed(a)}]",
    "texts in lists": lambda a: _changed(a, instruction=["Paint the car blue"]),
    "wrapped": lambda a: f'{{"result": {_changed(a)}}}',
    "two objects": lambda a: f"{_changed(a, instruction='Paint the car pink')}\n{_changed(a)}",
    "other names": lambda a: _changed(a).replace("src_caption", "Source Caption"),
    "single quotes": lambda a: str(good_fields(a)),
    "commas": lambda a: _changed(a).replace("}", ",}"),
    "line breaks": lambda a: _changed(a).replace("a red", "a\n\nred"),
    "spelled types": lambda a: _changed(a).replace("_change", " Change"),
}
# And these cannot.
UNUSABLE: dict[str, Callable[[Asked], str]] = {
    "refusal": lambda a: "I'm sorry, but I can't help with that.",
    "nothing": lambda a: "",
    "unknown type": lambda a: _changed(a, edit_type="make it nice"),
    "type that was not offered": lambda a: _changed(
        a, edit_type=next(t for t in ("add", "remove", "replace", "pose_change")
                          if t not in a.offered)
    ),
    "number for a text": lambda a: _changed(a, tgt_caption=7),
    "null for a text": lambda a: _changed(a, reverse_instruction=None),
    "empty text": lambda a: _changed(a, instruction="  "),
    "a field lacks": lambda a: json.dumps({"edit_type": a.offered[0], "src_caption": "a car"}),
    "equal captions": lambda a: _changed(a, tgt_caption=f"A  red car, number {a.key}"),
    "speaks of before": lambda a: _changed(a, reverse_instruction="Restore the original car"),
    "speaks of change": lambda a: _changed(a, tgt_caption="a car that is now blue"),
    "thoughts without end": lambda a: f"<think>{_changed(a)}",
    "cut": lambda a: _changed(a)[:-20],
}  # fmt: skip


class ChatServer:
    """Serves on a port of its own; a context manager.

    Args:
        answer: (question, how often this very question came before) -> answer.
        keep: whether to remember all questions.
    """

    def __init__(
        self, answer: Callable[[Asked, int], Answer] = lambda a, n: plain(a), keep: bool = True
    ) -> None:
        self.answer, self.keep = answer, keep
        self.asked: list[Asked] = []
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._at_once = 0
        self.most_at_once = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802
                self._send(200, json.dumps({"object": "list", "data": []}), {})

            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    owner._serve(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the other side was killed

            def _send(self, status: int, text: str, headers: dict[str, str], n: int = -1) -> None:
                data = text.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:n] if n >= 0 else data)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatServer:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: Any, body: dict[str, Any]) -> None:
        asked = _asked(body, {k.lower(): v for k, v in handler.headers.items()})
        with self._lock:
            before = self._times[asked.prompt]
            if self.keep:
                self._times[asked.prompt] += 1
                self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.answer(asked, before)
            time.sleep(answer.delay)
        finally:
            with self._lock:
                self._at_once -= 1
        text = answer.raw if answer.raw is not None else _completion(asked, answer)
        handler._send(answer.status, text, answer.headers, len(text) // 2 if answer.cut else -1)
        handler.close_connection = answer.cut


def _asked(body: dict[str, Any], headers: dict[str, str]) -> Asked:
    parts = body["messages"][-1]["content"]
    prompt = "".join(part["text"] for part in parts if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    pictures = [base64.b64decode(url.partition(",")[2]) for url in urls]
    found = re.search(r"number (\d+)", prompt)
    key = found[1] if found else "?"
    return Asked(key, prompt, pictures, body, headers, time.monotonic())


def _completion(asked: Asked, answer: Answer) -> str:
    message = {"role": "assistant", "content": answer.text}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": asked.body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    )


def moody(asked: Asked, before: int) -> Answer:
    """Every picture meets another mood at first, of the model or of the server before it."""
    moods = [*USABLE, *UNUSABLE, "429", "500", "broken connection", "slow", "no choices", "cut off"]
    mood = moods[int(asked.key) % len(moods)]
    if asked.again or not asked.offered:
        return plain(asked)
    if mood in USABLE or mood in UNUSABLE:
        return Answer((USABLE | UNUSABLE)[mood](asked))
    if mood == "slow":
        return Answer(json.dumps(good_fields(asked)), delay=0.3)
    if mood == "cut off":
        return Answer(json.dumps(good_fields(asked))[:-30], finish="length")
    if before:
        return plain(asked)
    return {
        "429": Answer(status=429, raw='{"error": {"message": "slow down"}}',
                      headers={"Retry-After": "1"}),
        "500": Answer(status=500, raw="oh no"),
        "broken connection": Answer(json.dumps(good_fields(asked)), cut=True),
        "no choices": Answer(status=503, raw='{"choices": []}'),
    }[mood]  # fmt: skip
