"""The processes that train one LoRA together, as `torchrun` and `accelerate launch` start them.

Nothing is wrapped: each process takes the passes of its own items. Here is what they say to each
other: gradients are summed once per optimiser step, all stop at the same place, one writes, and
nobody waits for one that is gone.

They wait for each other at the launcher's key-value store, asking again and again. There a long
wait, such as for another's encoding, is no fault; inside a collective of NCCL it is one, after ten
minutes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import ConfigError, TrainConfig
from .pulse import BEAT, Pulse, own_part, shared_store
from .stopping import HalfStep

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")
# Bytes of gradients that are summed at once.
BUCKET = 64 << 20
# Seconds between two questions to the store, the first and at most.
SOON, SELDOM = 0.001, 0.1
# Seconds that the main process gets to say what all others would say too.
TURN = 3.0


def launched() -> tuple[int, int]:
    """This process's rank, and how many there are, as their launcher tells them."""
    return int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1)


def processes() -> Processes:
    """Return the processes launched together with this one; alone, it is rank 0 of 1."""
    return _of(*launched())


@cache
def _of(rank: int, world: int) -> Processes:
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if world > 1 and lacking:
        raise ConfigError(
            f"WORLD_SIZE says that {world} processes were launched, and {', '.join(lacking)} is "
            "missing: start them with torchrun --nproc-per-node N -m byg_train, or unset WORLD_SIZE"
        )
    return Processes(rank, world)


def check_shares(config: TrainConfig) -> None:
    """ConfigError where the global batch cannot be shared among the processes."""
    train, world = config.train, launched()[1]
    share = max(train.batch_size, config.rollout.times)
    if train.global_batch % (world * share):
        fitting = [n for n in range(1, world) if train.global_batch % (n * share) == 0]
        raise ConfigError(
            f"train.global_batch {train.global_batch} cannot be shared among {world} processes of "
            f"{share} rows each (train.batch_size or rollout.times): set it to a multiple of "
            f"{world * share}, or start {fitting[-1]}"
        )


class Processes:
    """This process among those that train with it."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world, self.is_main = rank, world, rank == 0
        self._pulse: Pulse | None = None
        self._connection: Store | None = None
        self._runs = self._met = 0

    @property
    def _store(self) -> Store:
        if self._connection is None:
            self._connection = shared_store()
        return own_part(self._connection, self._runs)

    # ------------------------------------------------------------ life and death

    @contextmanager
    def joined(self) -> Iterator[None]:
        """End this process when another ends inside, and the others when it does."""
        if self.world == 1 or self._pulse:
            yield
            return
        import torch.distributed  # noqa: F401  # two threads cannot import it at once

        self._runs, self._met = self._runs + 1, 0
        self._pulse = Pulse(self.rank, self.world, self._runs)
        self._pulse.start()
        try:
            yield
            self._part()
        except BaseException as error:
            self._end(error)
            raise
        finally:
            self._pulse.end()
            self._pulse = None

    def listen(self, asked: list[int]) -> None:
        """Let a stop that any process is asked for arrive in everybody's list of signals."""
        if self._pulse:
            self._pulse.asked = asked

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do what the others then find done."""
        if not self.is_main:
            self.meet()
        yield
        if self.is_main:
            self.meet()

    def _part(self) -> None:
        """Leave together; the main process last, which may be the one that holds the store."""
        self.meet()
        if self.is_main:
            self._wait(lambda: self._store.add("left", 0) >= self.world - 1)
        else:
            self._store.add("left", 1)

    def _end(self, error: BaseException) -> None:
        """Tell the others; returns where this process is the one to speak of it."""
        code = getattr(error, "exit_code", None)  # of the command line, which has spoken
        cause = error if code is None or error.__context__ is None else error.__context__
        words = " ".join(f"{cause}".split()) or type(cause).__name__
        with suppress(RuntimeError):  # the store may be gone with the main process
            self._store.compare_set("ended", "", f"{self.rank} {words}")
            if self.is_main:
                self._store.set("main has ended", "")
                if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                    time.sleep(2 * BEAT)  # the store is in this process, and is still asked
                return
            deadline = time.monotonic() + TURN
            while time.monotonic() < deadline:
                if self._store.check(["main has ended"]):
                    time.sleep(TURN)  # a launcher ends all when the first has ended
                    sys.exit(getattr(error, "code", code) or 1)
                time.sleep(SELDOM)

    # ------------------------------------------------------------ meeting

    def meet(self, halt: bool = False) -> bool:
        """Wait until all are here; whether one of them wants to halt."""
        if self.world == 1:
            return halt
        self._met += 1
        here, halting = f"meeting {self._met}", f"halting {self._met}"
        if halt:
            self._ask(lambda: self._store.add(halting, 1))
        self._ask(lambda: self._store.add(here, 1))
        self._wait(lambda: self._store.add(here, 0) >= self.world)
        halted = self._ask(lambda: self._store.add(halting, 0)) > 0
        if self.is_main:  # everybody has left the one before
            for name in ("meeting", "halting"):
                self._store.delete_key(f"{name} {self._met - 1}")
        return halted

    def _ask(self, question: Callable[[], T]) -> T:
        """An answer of the store; ends where it is gone, or another process."""
        if self._pulse and self._pulse.lost:
            self._pulse.leave()
        try:
            return question()
        except RuntimeError:
            self._leave_if_alone()
            raise

    def _leave_if_alone(self) -> None:
        """Leave after a fault of the connection, if that was because another process has ended."""
        if self._pulse:
            self._pulse.wait_for_a_loss()

    def _wait(self, there: Callable[[], bool]) -> None:
        pause = SOON
        while not self._ask(there):
            time.sleep(pause)
            pause = min(1.5 * pause, SELDOM)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done inside is done by all: a `HalfStep` of one is one of everybody."""
        try:
            yield
        except HalfStep:
            self.meet(halt=True)
            raise
        if self.meet():
            raise HalfStep

    def of_main(self, value: Callable[[], Any]) -> Any:
        """What the main process finds (as JSON), told to all."""
        if self.world == 1:
            return value()
        name = f"told {self._met}"
        if self.is_main:
            self._store.set(name, json.dumps(value()))
        self.meet()
        return json.loads(self._ask(lambda: self._store.get(name)))

    # ------------------------------------------------------------ sharing

    def share(self, of: Sequence[T]) -> list[T]:
        """This process's part of what all do together."""
        return list(of[self.rank :: self.world])

    def gathered(self, mine: list[T]) -> list[T]:
        """The parts of all processes, in the order that `share` took them from."""
        if self.world == 1:
            return mine
        import torch.distributed as dist

        self.meet()
        parts: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(parts, mine)
        return [parts[i % self.world][i // self.world] for i in range(sum(map(len, parts)))]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of one type over all processes, in place; `meet` goes before."""
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            try:
                dist.all_reduce(flat)
            except RuntimeError:
                self._leave_if_alone()
                raise
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
