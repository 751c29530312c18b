"""A real ComfyUI server for tests: a process of its own, with the pack as a custom node.

`server()` starts it once for the session. What it reads and writes is a folder of its own, without
anything of a ComfyUI that may be installed here.
"""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fetch_host
import numpy as np
import requests
from comfy_host import PACKAGES, ROOT, require_host
from PIL import Image

from tools.frontend import SETTINGS
from tools.prompts import Prompt

# Beside what its nodes need, what the server imports.
FOR_SERVER = ("aiohttp", "alembic", "comfyui_frontend_package", "pydantic_settings", "requests")
FOR_SERVER += ("sqlalchemy", "tqdm", "yaml", "yarl")
PACK = "ByG"  # its folder's name in custom_nodes
PATIENCE = 600  # seconds, for a machine that does much else


@dataclass(frozen=True)
class Done:
    """A prompt that came to its end."""

    outputs: dict[str, dict[str, Any]]  # node -> what it showed or saved
    error: str | None
    cached: tuple[str, ...]  # nodes that did not run again


class Server:
    """A running ComfyUI and its folder."""

    def __init__(self, base: Path, process: subprocess.Popen, port: int) -> None:
        self.base, self.process, self.address = base, process, f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """What it answers, as JSON."""
        answer = requests.get(f"{self.address}{path}", timeout=PATIENCE)
        answer.raise_for_status()
        return answer.json()

    def raw(self, path: str) -> bytes:
        """What it answers, as it is."""
        answer = requests.get(f"{self.address}{path}", timeout=PATIENCE)
        answer.raise_for_status()
        return answer.content

    def post(self, path: str, data: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.address}{path}", json=data, timeout=PATIENCE)

    def queue(self, prompt: Prompt) -> str:
        """Put a prompt into the queue; its number. AssertionError with the answer if refused."""
        answer = self.post("/prompt", {"prompt": prompt})
        assert answer.ok, answer.text
        return answer.json()["prompt_id"]

    def wait(self, number: str) -> Done:
        """The end of a queued prompt."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if entry := self.get(f"/history/{number}").get(number):
                return _done(entry)
            time.sleep(0.05)
        raise TimeoutError(self.log()[-3000:])

    def run(self, prompt: Prompt) -> Done:
        """Queue a prompt and wait; AssertionError if it failed."""
        done = self.wait(self.queue(prompt))
        assert done.error is None, done.error
        return done

    def forget(self) -> None:
        """Everything out of memory, as with the button; done when this returns.

        The worker looks at its flags between two prompts, so there is another one before the next.
        """
        self.post("/free", {"unload_models": True, "free_memory": True}).raise_for_status()
        size = {"width": 16, "height": 16, "batch_size": 1, "color": 0}
        self.run(
            {
                "empty": {"class_type": "EmptyImage", "inputs": size},
                "shown": {"class_type": "PreviewImage", "inputs": {"images": ["empty", 0]}},
            }
        )

    def pictures(self, done: Done, node: str) -> list[np.ndarray]:
        """The pictures that a node saved or showed, uint8 (H, W, 3)."""
        return [np.asarray(Image.open(file).convert("RGB")) for file in self.files(done, node)]

    def clip(self, done: Done, node: str) -> tuple[np.ndarray, float]:
        """The frames (F, H, W, 3) of a clip that a node saved, and their rate."""
        import av

        (file,) = self.files(done, node)
        with av.open(str(file)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            return np.stack(frames), float(container.streams.video[0].average_rate)

    def files(self, done: Done, node: str) -> list[Path]:
        """Where a node's pictures or clips are."""
        entries = done.outputs[node]["images"]
        return [self.base / e["type"] / e["subfolder"] / e["filename"] for e in entries]

    def log(self) -> str:
        """What it printed."""
        return (self.base / "server.log").read_text(errors="replace")


def _done(entry: dict[str, Any]) -> Done:
    error, cached = None, ()
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            error = f"{data['exception_type']}: {data['exception_message']}"
        elif kind == "execution_interrupted":
            error = "interrupted"
        elif kind == "execution_cached":
            cached = tuple(data["nodes"])
    return Done(entry["outputs"], error, cached)


def server() -> Server:
    """The session's server; fails or skips where there is none to start."""
    require_host((*PACKAGES, *FOR_SERVER))
    return _started()


@cache
def _started() -> Server:
    base = Path(tempfile.mkdtemp(prefix="byg-server-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    for folder in ("models/loras", "input", "output", "temp", "custom_nodes", "user"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    shutil.copy(Path(__file__).with_name("host_nodes.py"), base / "custom_nodes")
    tree, port = fetch_host.host_folder(), _free_port()
    shutil.copy(tree / "input" / "example.png", base / "input")
    command = [sys.executable, str(Path(__file__).with_name("start_host.py")), str(tree)]
    command += ["--cpu", "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}"]
    command += ["--disable-api-nodes", "--disable-auto-launch"]
    with (base / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=base, stdout=log, stderr=subprocess.STDOUT)
    atexit.register(_stop, process)
    found = Server(base, process, port)
    _wait_until_up(found)
    found.post("/settings", SETTINGS).raise_for_status()
    return found


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(10)


def _wait_until_up(found: Server) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and found.process.poll() is None:
        try:
            found.get("/system_stats")
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"ComfyUI does not start:\n{found.log()[-3000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
