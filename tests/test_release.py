"""What is published: versions, changelog, the archive of the node pack, its address and icon."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import byg_train
from byg_train.config import tomllib
from tools.release import changes, notes

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT = "# Changelog\n\n## 1.1.0 (2026-01-02)\n\n- more\n\n## 1.0.0 (not yet)\n\n- first\n"


def test_a_release_is_a_dated_section_of_the_changelog() -> None:
    assert notes("v1.1.0", "1.1.0", TEXT) == "- more"
    with pytest.raises(ValueError, match=r"1.0.0 says \(not yet\), wanted \(YYYY-MM-DD\)"):
        changes("1.0.0", TEXT)
    with pytest.raises(ValueError, match=r"no section of 2.0.0; found .*1.1.0"):
        changes("2.0.0", TEXT)
    with pytest.raises(ValueError, match=r"tag v1.1: .* is 1.1.0, wanted v1.1.0"):
        notes("v1.1", "1.1.0", TEXT)


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", text, re.M)[1] == byg_train.__version__


def test_the_registry_finds_what_it_asks_for() -> None:
    urls, comfy = PROJECT["project"]["urls"], PROJECT["tool"]["comfy"]
    assert {"Repository", "Documentation", "Bug Tracker"} <= urls.keys()
    home = urls["Repository"].removeprefix("https://github.com/")
    raw = f"https://raw.githubusercontent.com/{home}/main/"
    assert comfy["Icon"].startswith(raw) and (ROOT / comfy["Icon"].removeprefix(raw)).is_file()


# ---------------------------------------------------------------- the archive


def _archived() -> list[str]:
    """The files that the registry's archive holds: those of git without .comfyignore's."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    return [f for f in files if f and not any(_matches(f, rule) for rule in rules)]


def _matches(file: str, rule: str) -> bool:
    assert rule.startswith("/"), f"{rule} would also leave out folders of that name inside"
    rule = rule[1:]
    return fnmatch(file, f"{rule}*" if rule.endswith("/") else rule)


def test_the_archive_holds_what_the_nodes_need_and_no_more() -> None:
    found = _archived()
    tops = {file.split("/")[0] for file in found}
    assert {"nodes", "byg_train", "workflows", "subgraphs", "locales", "web"} <= tops
    assert not tops & {"tests", "docs", "tools", "benchmarks", ".github", ".ci"}
    named = {"__init__.py", "pyproject.toml", "LICENSE", "README.md", "nodes/__init__.py"}
    named |= {"web/docs/ByG_Loader.md", "locales/en/nodeDefs.json"}
    named |= {"byg_train/world/demo.safetensors", "byg_train/world/fetch.py"}
    assert named <= set(found)
    assert sum((ROOT / file).stat().st_size for file in found) < 10 * 2**20
    assert not [file for file in found if "warmup" in file and file.endswith(".safetensors")]


# ---------------------------------------------------------------- the container


def test_the_container_copies_what_the_wheel_is_made_of() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in copied:
        assert (ROOT / name).exists() and name not in ignored
    needed = {"byg_train", "pyproject.toml", PROJECT["project"]["readme"], "LICENSE"}
    assert needed <= copied
    extras = re.search(r"ARG EXTRAS=(\S+)", "\n".join(lines))[1].split(",")
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()


def test_compose_runs_the_command_on_all_gpus() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (device,) = service["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and device["count"] == "all"
    assert service["train"]["build"] == "."
