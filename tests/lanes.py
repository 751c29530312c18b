"""Which tests need a ComfyUI, a browser or several processes: markers, and a check of two of them.

A test is marked by the fixtures it takes; one that reaches the host in another way says
`@pytest.mark.host` itself. Without its mark a test is stopped, so that `-m "not host"` means it.
Tests with one of the three marks wait for programs that are not ours, which a busy machine delays:
where one fails, it has a second try, of which the report tells. All others have one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import pytest

from byg_train.machine import usable_cpus

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

OF_FIXTURE = {"host": "host", "comfyui": "host", "browser": "browser"}
WITH_OTHER_PROGRAMS = {"host", "browser", "processes"}
_running: list[pytest.Item] = []


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in OF_FIXTURE.items():
            if fixture in item.fixturenames and not item.get_closest_marker(marker):
                item.add_marker(marker)
        if WITH_OTHER_PROGRAMS & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.flaky(reruns=1))


def share_cores() -> None:
    """With `pytest -n`, before torch is loaded: no more threads than one process has CPUs."""
    if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
        threads = max(1, usable_cpus() // processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _running[:] = [item]


def needs(marker: str) -> None:
    """Fail the running test unless it has the marker."""
    (item,) = _running
    if not item.get_closest_marker(marker):
        pytest.fail(f"{item.nodeid} needs a {marker}: mark it with @pytest.mark.{marker}")


def cases(names: Iterable[str], *, slow: str) -> list[ParameterSet]:
    """Values for `parametrize`, of which one is slow."""
    return [pytest.param(n, marks=[pytest.mark.slow] if n == slow else []) for n in names]


def missing(marker: str, what: str) -> NoReturn:
    """Skip a test, or fail it if BYG_REQUIRE_HOST=1 (or ..._BROWSER=1) says that it must run."""
    variable = f"BYG_REQUIRE_{marker.upper()}"
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {what}")
    pytest.skip(what)
