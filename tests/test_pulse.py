"""The thread by which a process knows that the others live."""

from __future__ import annotations

import threading
import time

import pytest

from byg_train.training import pulse


class SlowStore:
    """A store that takes its time; one process is all there is."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def add(self, key: str, amount: int) -> int:
        self.asked.set()
        time.sleep(0.3)
        return amount

    def check(self, keys: list[str]) -> bool:
        return False


def test_nobody_asks_the_store_once_the_pulse_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore()
    monkeypatch.setattr(pulse, "BEAT", 0.01)
    monkeypatch.setattr(pulse, "shared_store", lambda: store)
    monkeypatch.setattr(pulse, "own_part", lambda store, run: store)
    beating = pulse.Pulse(1, 2, 1)
    beating.start()
    assert store.asked.wait(10)
    beating.end()
    assert not beating.is_alive() and beating.lost is None
