"""The lanes of the suite: what `-m "not host and not browser"` leaves out is never started."""

from __future__ import annotations

from pathlib import Path

import browsers
import comfy_host
import comfy_server
import lanes
import pytest

from byg_train.config import tomllib

browser = browsers.browser
STOPPED = pytest.raises(pytest.fail.Exception, match=r"mark it with @pytest\.mark\.")


def test_a_test_without_the_marker_gets_no_host() -> None:
    with STOPPED:
        comfy_host.in_host(print)
    with STOPPED:  # what the fixture `host` calls, and below `comfyui`
        comfy_server.server()
    with STOPPED:
        comfy_host.require_host(("einops",))


def test_a_browser_cannot_be_had_behind_the_markers_back(request: pytest.FixtureRequest) -> None:
    with STOPPED:
        request.getfixturevalue("browser")


class Collected:
    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = [item.name for item in session.items]


@pytest.mark.parametrize(
    ("lane", "names"),
    [
        ("not host and not browser", ["test_plain"]),
        ("host", ["test_served", "test_both"]),
        ("browser", ["test_shown", "test_both"]),
    ],
)
def test_fixtures_bring_their_marker(lane: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    host\n    browser\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef host(): ...\n"
        "@pytest.fixture\ndef browser(): ...\n"
        "@pytest.fixture\ndef page(browser): ...\n"
        "def test_plain(tmp_path): ...\n"
        "def test_served(host): ...\n"
        "def test_shown(page): ...\n"
        "def test_both(page, host): ...\n"
    )
    found = Collected()
    options = [
        "--collect-only",
        "-qq",
        "--strict-markers",
        "-m",
        lane,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    options += ["--import-mode=importlib", f"--rootdir={tmp_path}", str(tmp_path)]
    assert pytest.main(options, [lanes, found]) == 0
    assert found.names == names


def test_a_misspelled_marker_is_an_error() -> None:
    settings = tomllib.loads((comfy_host.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "--strict-markers" in settings["tool"]["pytest"]["ini_options"]["addopts"]
