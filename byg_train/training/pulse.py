"""Whether the other processes still live: each tells it every second, whatever it computes."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT = 1.0
# Seconds without a sign of life after which a process is gone: fewer once a launcher ends them all,
# which kills after thirty, and more before the first sign, while libraries are loaded.
SILENT, SILENT_AT_THE_END, SILENT_AT_FIRST = 30.0, 12.0, 600.0
# Seconds in which the main thread should say that another process is gone, before this one does.
GRACE = 8.0


def shared_store() -> Store:
    """A connection of its own to the store of all processes that were launched together."""
    from torch.distributed import rendezvous

    return next(iter(rendezvous("env://", timeout=timedelta(seconds=SILENT_AT_FIRST))))[0]


def own_part(store: Store, run: int) -> Store:
    """The keys of one run, of those that these processes take part in, and of one launch."""
    from torch.distributed import PrefixStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"byg {attempt} {run}", store)


class Pulse(threading.Thread):
    """Gives and watches signs of life. The main process watches all, and all watch it."""

    def __init__(self, rank: int, world: int, run: int) -> None:
        """`run` counts the runs that these processes take part in, one after the other."""
        super().__init__(daemon=True)
        self.rank, self.world, self._run = rank, world, run
        self.asked: list[int] = []  # the signals that ask for a stop
        self.lost: str | None = None  # a sentence, once another process has ended
        self.speaks = True  # whether it is this process that says it
        self._over = threading.Event()
        now = time.monotonic()
        watched = range(1, world) if rank == 0 else [0]
        self._seen = {other: (0, now) for other in watched}

    def run(self) -> None:
        """Beat until the end; where another's is seen, end this process too."""
        store = own_part(shared_store(), self._run)
        while not self._over.wait(BEAT):
            try:
                store.add(f"beat {self.rank}", 1)
                self._pass_on_stops(store)
                self.lost = self._found(store)
            except RuntimeError:
                self.lost = f"process 0 of {self.world}, or its launcher, does not answer any more"
            if self.lost:
                break
        if self.lost and not self._over.wait(GRACE):
            self.leave()

    def end(self) -> None:
        """Stop watching; returns when the thread is at its end, or after some seconds.

        Python that ends while it is in a call of the store aborts the whole process, and then the
        launcher ends all others.
        """
        self._over.set()
        self.join(GRACE)

    def leave(self) -> NoReturn:
        """End this process because another has ended: at once, since nobody answers any more."""
        if self.speaks:
            sys.stderr.write(
                f"error: {self.lost}; the last checkpoint is whole: start all processes again, "
                "with --resume\n"
            )
            sys.stderr.flush()
        os._exit(1)

    def wait_for_a_loss(self) -> None:
        """Leave after a collective has failed, if that was because another process has ended."""
        deadline = time.monotonic() + SILENT + BEAT
        while time.monotonic() < deadline:
            if self.lost:
                self.leave()
            time.sleep(BEAT / 4)

    def _pass_on_stops(self, store: Store) -> None:
        if self.asked:
            store.set("stop", str(self.asked[0]))
        elif store.check(["stop"]):
            self.asked.append(int(store.get("stop")))

    def _found(self, store: Store) -> str | None:
        """What ended another process, if one has."""
        if store.check(["ended"]):
            other, why = store.get("ended").decode().split(" ", 1)
            self.speaks = self.rank == 0  # what ended it, the main process has said itself
            return f"process {other} of {self.world} has ended: {why}"
        now, limit = time.monotonic(), SILENT_AT_THE_END if self.asked else SILENT
        for other, (beats, since) in self._seen.items():
            new = store.add(f"beat {other}", 0)
            if new != beats:
                self._seen[other] = new, now
            elif now - since > (limit if beats else SILENT_AT_FIRST):
                self.speaks = self.rank == 0 or store.add("said", 1) == 1
                store.compare_set("ended", "", f"{other} it gives no sign of life any more")
                return f"process {other} of {self.world} gives no sign of life any more"
        return None
