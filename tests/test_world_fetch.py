"""A base that the registry's archive left out is fetched whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from byg_train import __version__
from byg_train.world import fetch

WHEEL = f"byg_train-{__version__}-py3-none-any.whl"
IN_WHEEL = (
    "base/model_index.json", "base/vae/config.json", "base_wan/config.json",
    "demo.safetensors", "demo_new.safetensors", "warmup.safetensors",
)  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index on this machine: a folder that is served, with a wheel."""
    root = tmp_path / "served"
    root.mkdir()
    with zipfile.ZipFile(root / WHEEL, "w") as wheel:
        for name in IN_WHEEL:
            wheel.writestr(f"byg_train/world/{name}", name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(fetch, "INDEX", address + "/{version}.json")
    _write_index(root, address)
    yield root
    server.shutdown()
    server.server_close()


def _write_index(root: Path, address: str, **changed: object) -> None:
    data = (root / WHEEL).read_bytes()
    wheel = {
        "packagetype": "bdist_wheel", "url": f"{address}/{WHEEL}", "size": len(data),
        "digests": {"sha256": hashlib.sha256(data).hexdigest()},
    }  # fmt: skip
    files = [{"packagetype": "sdist"}, {**wheel, **changed}]
    (root / f"{__version__}.json").write_text(json.dumps({"urls": files}))


def _address(index: Path) -> str:
    return json.loads((index / f"{__version__}.json").read_text())["urls"][1]["url"][
        : -len(WHEEL) - 1
    ]


def test_a_base_is_fetched_from_the_package_of_this_version(index: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "world" / "base", []
    (folder / "broken").mkdir(parents=True)
    own = folder.parent / "demo.safetensors"
    own.write_text("what is there stays")
    fetch.fetch_base(folder, said.append)
    assert own.read_text() == "what is there stays"
    assert (folder / "vae" / "config.json").read_text() == "base/vae/config.json"
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert not (folder / "broken").exists()
    assert {str(path.relative_to(folder.parent)) for path in files} == {
        str(Path("base", "model_index.json")), str(Path("base", "vae", "config.json")),
        "demo.safetensors", "demo_new.safetensors",
    }  # fmt: skip
    assert said and said[-1].startswith("fetching the small models, once: 0 of 0 MB")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"digests": {"sha256": "0" * 64}}, "its SHA-256 is not that of the index"),
        ({"packagetype": "sdist"}, "it lists no wheel"),
        ({"url": "http://127.0.0.1:9/closed"}, r"closed \(.*refused"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing(
    index: Path, tmp_path: Path, changed: dict, why: str
) -> None:
    _write_index(index, _address(index), **changed)
    folder = tmp_path / "world" / "base"
    folder.parent.mkdir()
    with pytest.raises(ValueError, match=rf"could not be fetched from .*{why}") as error:
        fetch.fetch_base(folder, lambda text: None)
    assert "connect to the network once, or copy byg_train/world/base" in str(error.value)
    assert not list(folder.parent.iterdir())


def test_no_index_and_no_network(index: Path, tmp_path: Path) -> None:
    (index / f"{__version__}.json").unlink()
    with pytest.raises(ValueError, match=r"could not be fetched from .*404"):
        fetch.fetch_base(tmp_path / "base", lambda text: None)


def test_it_can_be_stopped(index: Path, tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "world" / "base"
    folder.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_base(folder, stop)
    assert not list(folder.parent.iterdir())
