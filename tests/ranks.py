"""Trainings in several processes, with accidents: `launch` here, and what it starts.

`python -m torch.distributed.run --nproc-per-node N ranks.py SPEC.json`; SPEC is a `Spec`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch import save as save_tensors

from byg_train.config import TrainConfig, build_config
from byg_train.core.roles import EditBatch
from byg_train.data.cache import Cache
from byg_train.data.items import load_items
from byg_train.models import storage
from byg_train.training import assembly, trainer, updates
from byg_train.training.assembly import RunParts
from byg_train.training.stopping import Interrupted
from byg_train.training.validation import Validator

ROOT = Path(__file__).parents[1]


@dataclass
class Spec:
    """What is trained, and what happens meanwhile."""

    config: dict
    output: str
    multiple: int
    resume: bool = False
    # [rank, where]: a forward of the loop, by its number, or a name of `PLACES`.
    stop: list[list] = field(default_factory=list)  # SIGTERM
    kill: list[list] = field(default_factory=list)  # SIGKILL
    fail: list[list] = field(default_factory=list)  # an error
    slow: list[list] = field(default_factory=list)  # longer than the back end waits
    exact: bool = True  # in float64


# What else than a forward of the loop something may happen at.
PLACES = {
    "start": (trainer, "settle_dtype"),
    "encoding": (Cache, "_encode_pixels"),
    "loading": (assembly, "warmup_files"),
    "checkpoint": (torch, "save"),
    "update": (trainer.Trainer, "_update"),
    "samples": (Validator, "_look"),
}
# Seconds that the back end waits, where somebody is slow, and that he takes.
PATIENCE, TOO_LONG = 5, 8


def launch(processes: int, config: TrainConfig, output: Path, multiple: int, **more: Any) -> Any:
    """Train in so many processes; 0: in one that nobody launched."""
    output.mkdir(parents=True, exist_ok=True)
    spec = Spec(config.model_dump(mode="json"), str(output), multiple, **more)
    file = output / ".spec.json"
    file.write_text(json.dumps(asdict(spec)))
    return ended(started(torchrun(processes) if processes else [], [Path(__file__), file]))


def started(launcher: Sequence[object], words: Sequence[object]) -> subprocess.Popen:
    """Python with a launcher's words, if there is one, and what it launches."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, *map(str, (*launcher, *words))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def ended(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """What it has said, and its exit code."""
    said = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def torchrun(processes: int, nodes: int = 1, node: int = 0, port: int = 0) -> list[object]:
    """The words of docs/scaling.md: so many processes on one machine, or on each of several."""
    where = ["--standalone"]
    if nodes > 1:
        where = ["--nnodes", nodes, "--node-rank", node, "--master-addr", "127.0.0.1"]
        where += ["--master-port", port]
    return ["-m", "torch.distributed.run", *where, "--nproc-per-node", processes]


def accelerate(processes: int, port: int, machines: int = 1, machine: int = 0) -> list[object]:
    """The same with accelerate, whose processes are those of all machines."""
    where = []
    if machines > 1:
        where = ["--num_machines", machines, "--machine_rank", machine]
        where += ["--main_process_ip", "127.0.0.1"]
    start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", processes]
    return [*start, *where, "--main_process_port", port]


def seconds_since_the_accident(run: Path) -> float:
    """By the clock on the wall."""
    return time.time() - float((run / ".accident").read_text())


def gradients(run: Path) -> list[dict[str, Tensor | None]]:
    """Of every optimiser step, as the first process had them."""
    files = sorted(run.glob(".gradients-*.pt"), key=lambda file: int(file.stem.split("-")[1]))
    return [torch.load(file) for file in files]


# ---------------------------------------------------------------- in the processes


def main(spec: Spec) -> None:
    rank, patch = int(os.environ.get("RANK", "0")), pytest.MonkeyPatch()
    if spec.exact:
        _in_float64(patch)
    _note_gradients(patch, Path(spec.output), rank)
    if spec.slow:
        patient = partial(dist.init_process_group, timeout=timedelta(seconds=PATIENCE))
        patch.setattr(dist, "init_process_group", patient)
    accident = Path(spec.output) / ".accident"
    acts = {
        "stop": _send(15),
        "kill": _send(9),
        "fail": _fail,
        "slow": partial(time.sleep, TOO_LONG),
    }
    for what, act in acts.items():
        for who, where in getattr(spec, what):
            if who == rank:
                _at(patch, where, act, accident)
    config = build_config(spec.config)
    data = load_items(config.data, spec.multiple)
    try:
        trainer.train(config, data, Path(spec.output), device="cpu", resume=spec.resume)
    except Interrupted as stop:
        sys.stdout.write(f"{stop}\n")
        sys.exit(stop.code)


def _in_float64(patch: pytest.MonkeyPatch) -> None:
    """Base, LoRA and batches; diffusers' blocks must not go back to float32 between."""
    single, assemble, to_device = Tensor.float, trainer.assemble, updates.to_device
    fp8 = storage._as_fp8
    patch.setattr(storage, "_as_fp8", lambda blocks, dtype: fp8(blocks, torch.float64))
    patch.setattr(Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))

    def double(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: double(one) for name, one in part.items()}
        return part.double() if isinstance(part, Tensor) else part

    def assembled(*given: Any) -> RunParts:
        parts = assemble(*given)
        parts.backbone.experts.double()
        generator = torch.Generator().manual_seed(5)
        for weight in parts.bank.named_parameters().values():
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.data = 0.1 * drawn
        for held in (parts.validator, parts.validator.watch):
            held.batch, held.eps = EditBatch(*map(double, held.batch)), held.eps.double()
            held.t = double(held.t)
        return parts

    patch.setattr(trainer, "assemble", assembled)
    patch.setattr(
        updates, "to_device", lambda batch, to: EditBatch(*map(double, to_device(batch, to)))
    )


def _note_gradients(patch: pytest.MonkeyPatch, output: Path, rank: int) -> None:
    """Those of every step, as they are when the optimiser takes them."""
    real = trainer.Trainer._update

    def update(self: trainer.Trainer, record: dict, active: list[str]) -> None:
        if rank == 0:
            grads = {n: p.grad for n, p in self.bank.named_parameters().items()}
            save_tensors(grads, output / f".gradients-{self.state.step}.pt")
        real(self, record, active)

    patch.setattr(trainer.Trainer, "_update", update)


def _send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _fail() -> None:
    raise MemoryError("no memory is left")


def _at(
    patch: pytest.MonkeyPatch, where: int | str, act: Callable[[], None], accident: Path
) -> None:
    """Act at a forward of the loop, or where one of `PLACES` is first entered."""
    taken: list[int] = []

    def counted(real: Callable) -> Callable:
        def answer(*given: Any, **named: Any) -> Any:
            taken.append(1)
            if len(taken) == (where if isinstance(where, int) else 1):
                accident.write_text(str(time.time()))
                act()
            return real(*given, **named)

        return answer

    if isinstance(where, str):
        owner, name = PLACES[where]
        patch.setattr(owner, name, counted(getattr(owner, name)))
        return
    heedful = trainer.heedful
    patch.setattr(trainer, "heedful", lambda velocity, asked: counted(heedful(velocity, asked)))


if __name__ == "__main__":
    main(Spec(**json.loads(Path(sys.argv[1]).read_text())))
