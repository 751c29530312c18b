"""The loop: identity warm-up, then the objective; logs, samples, checkpoints. No equations."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import TrainConfig
from ..config.methods import MethodConfig
from ..core import schedule
from ..core.roles import EditBatch, Roles, repeated
from ..data.batches import to_device
from ..objectives import objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import StepOutput
from ..progress import CONSOLE, Progress
from .assembly import RunParts, assemble, settle_dtype
from .cost import Memory
from .draws import draw_for
from .forecast import Forecast
from .gradients import term_gradients
from .keeper import Keeper, listed
from .metrics import Metrics
from .microbatches import MicroBatch, Passes, by_expert, gradients, label, means
from .microbatches import TrainingError as TrainingError  # what a step may raise
from .optimizer import learning_rate
from .peak import Watch
from .run_folder import remove_half_written
from .state import State
from .stopping import NOTHING_LOST, HalfStep, SavedAndStopped, heedful, stop_requests, stops_at_once

if TYPE_CHECKING:
    from ..data.items import Dataset

log = logging.getLogger("byg_train")


def train(
    config: TrainConfig,
    data: Dataset,
    output: Path,
    *,
    device: str,
    resume: bool,
    forecast: Forecast | None = None,
    planned: Memory | None = None,
) -> list[Path]:
    """Run (or go on with) a training; returns the final LoRA's file, or those of a pair.

    What was forecast and planned is said beside what the first steps take.
    """
    with stops_at_once(NOTHING_LOST):
        remove_half_written(output)
        config = settle_dtype(config, output, device, resume=resume)
        trainer = Trainer(config, data, output, assemble(config, data, output, device))
        if resume:
            trainer.resume()
        if trainer.samples_are_missing():
            trainer.validate()
    line = Progress(*trainer.state.phase(config), labels=trainer.labels)
    watch = Watch(planned, trainer.device, trainer.backbone.experts.parameters())
    with stop_requests(trainer.stop) as stop, line as trainer.line:
        while not trainer.state.finished(config):
            with suppress(HalfStep):
                _step(trainer, forecast, watch)
            if stop:
                raise SavedAndStopped(trainer.stopped(), 128 + stop[0])
        trainer.save()
        files = trainer.write_lora(output / f"{output.name}.safetensors")
    trainer.line = None
    done = f"the training is complete, but for its last samples; the LoRA is {listed(files)}"
    with stops_at_once(done):
        trainer.validate()
        trainer.accelerator.end_training()
    return files


def _step(trainer: Trainer, forecast: Forecast | None, watch: Watch) -> None:
    """A step, what is to be said of it, and what is due after it."""
    with trainer.whole():
        record, peak = watch.step(trainer.optimizer_step, warming_up=trainer.state.warming_up)
    trainer.metrics.write(record)
    trainer.line.show(record, trainer.state.phase(trainer.config))
    expected = forecast.note(record, trainer.state.main_step) if forecast else None
    for sentence in filter(None, (peak, expected)):
        CONSOLE.print(sentence, highlight=False)
    trainer.write_what_is_due()


class Trainer(Keeper):
    """Everything a run holds, and the few things it does."""

    def __init__(self, config: TrainConfig, data: Dataset, output: Path, parts: RunParts) -> None:
        self.config, self.data, self.output, self.state = config, data, output, State()
        self.accelerator, self.device = parts.accelerator, parts.accelerator.device
        self.backbone, self.bank = parts.backbone, parts.bank
        self.stop: list[int] = []  # the signals that asked for it
        self.roles = Roles(*(heedful(velocity, self.stop) for velocity in parts.roles))
        self.line: Progress | None = None
        self.saved, self.passes = time.monotonic(), Passes(0)
        self.optimizer, self.validator = parts.optimizer, parts.validator
        self.cache, self.batches = parts.cache, parts.batches
        self.objective = objective_of(config)
        self.metrics = Metrics(output / "metrics.jsonl", self.accelerator)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.spans = {expert: self.backbone.spans[expert] for expert in self.bank.experts}

    @property
    def labels(self) -> dict[str, str]:
        """What the progress line calls every term of the run, the warm-up's included."""
        return {term.name: term.label for term in (*self.objective.terms, *IDENTITY.terms)}

    # ------------------------------------------------------------ stepping

    def optimizer_step(self) -> dict:
        """Take one optimiser step over `accumulation` micro-batches; returns what to log."""
        began, self.passes = time.monotonic(), Passes(self.state.step)
        spans = self._still_warming_up() if self.state.warming_up else self.spans
        if not spans:
            self._end_warmup()
            spans = self.spans
        chance = torch.rand((), generator=self.generator).item()
        identity_only = self.state.warming_up or chance < self.config.method.identity_share
        every = self.config.train.check_gradients_every
        if not identity_only and self.objective.is_checked and self.state.check_is_due(every):
            self._check_gradients()
        work: list[MicroBatch] = []
        while len(work) < self.config.train.accumulation:
            work += self._micro_batches(spans)
        outputs = self._gradients(work, identity_only)
        active = list(dict.fromkeys(one.expert for one in work))
        record = self._measured(work, outputs, identity_only)
        self._update(record, active)
        record["seconds"] = time.monotonic() - began
        return record

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, a step is taken whole or, if a stop comes in between, not at all."""
        before, random = deepcopy(self.state), self.generator.get_state()
        try:
            yield
        except HalfStep:
            before.checked = self.state.checked
            self.state = before
            self.generator.set_state(random)
            self.optimizer.zero_grad()
            raise

    def _micro_batches(self, spans: dict[str, schedule.Span]) -> list[MicroBatch]:
        """The next items with their draws within one span: as many as share a rollout, or one."""
        batch = self._rows(self.state.micro)
        self.state.micro += 1
        times = self.config.time
        expert = schedule.draw_span(spans, self.generator, times.distribution, times.shift)
        draws = [self._draw(batch.x, expert)]
        for _ in range(draws[0].times // len(batch.x) - 1):
            draws.append(self._draw(batch.x, expert)._replace(eps=draws[0].eps))
        return [MicroBatch(expert, batch, draw) for draw in draws]

    def _rows(self, k: int) -> EditBatch:
        """Items k, each in as many rows as a micro-batch has times of it."""
        times = self.config.train.batch_size // self.config.items_at_once
        return to_device(repeated(self.batches[k], times), self.device)

    def _draw(self, x: Tensor, expert: str) -> schedule.Draw:
        return draw_for(self.config, x, self.spans[expert], self.generator)

    def _gradients(self, work: list[MicroBatch], identity_only: bool) -> list[StepOutput]:
        objective = IDENTITY if identity_only else self.objective
        return gradients(objective, self.roles, work, self._weights, self._backward, self.backbone)

    @property
    def _weights(self) -> MethodConfig:
        """What weighs the losses at this place of the run."""
        return self.config.method.after(self.state.main_step / self.config.train.steps)

    def _backward(self, loss: Tensor, stage: str) -> float:
        self.passes.note(stage, loss.detach())
        factor = 1 / self.config.train.accumulation
        self.accelerator.backward(loss * factor)
        return factor

    def _update(self, record: dict, active: list[str]) -> None:
        """An optimiser and EMA step of the active experts: an idle one's gradients are None."""
        record["lr"] = learning_rate(self.config, self.state.step, self.state.main_step)
        for group in self.optimizer.param_groups:
            group["lr"] = record["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.state.warming_up:
            self.bank.update_ema(active)
        self.state.step += 1
        if self.state.warming_up:
            for expert in active:
                self.state.note_identity(expert, record[label("identity", expert, self.spans)])

    def _still_warming_up(self) -> dict[str, schedule.Span]:
        """The experts whose warm-up must go on, and their times."""
        w, state = self.config.warmup, self.state
        if w.until is not None and w.min_steps <= state.step < w.max_steps:
            for expert in (e for e in self.spans if e not in state.identity):
                state.identity[expert] = self.validator.identity(expert)
        return {
            expert: self.spans[expert] for expert in state.still_warming_up(self.config, self.spans)
        }

    def _end_warmup(self) -> None:
        w, step = self.config.warmup, self.state.step
        if w.until is not None and step >= w.max_steps:
            log.warning("the warm-up ended at max_steps before the loss fell to warmup.until")
        self.state.warmup = step
        self.bank.copy_to_ema()
        if step:  # a good start for other runs: warmup.lora
            self.write_lora(self.output / "checkpoints" / "warmup.safetensors")

    def _measured(
        self, work: list[MicroBatch], outputs: list[StepOutput], identity_only: bool
    ) -> dict:
        """What to log, in one transfer; clips the gradients, which must be numbers."""
        parameters = list(self.bank.named_parameters().values())
        limit = self.config.optimizer.max_grad_norm
        measures = {"loss": torch.stack([o.loss for o in outputs]).mean(), **means(outputs)}
        measures |= by_expert(work, outputs, self.spans)
        measures["grad_norm"] = self.accelerator.clip_grad_norm_(parameters, limit)
        kind = "warmup" if self.state.warming_up else "identity" if identity_only else "full"
        return {"step": self.state.step + 1, "kind": kind, **self.passes.numbers(measures)}

    def _check_gradients(self) -> None:
        """Warn if a loss term stops reaching an expert's weights; takes nothing from the run."""
        batch = self._rows(self.state.micro)
        before, found = self.generator.get_state(), {}
        for expert in self.spans:
            # All rows: that none was drawn for a term would look like a cut graph.
            draw = self._draw(batch.x, expert)._replace(identity=None, prior_rev=None)
            m, p = self._weights, self.bank.named_parameters()
            norms = term_gradients(self.objective, self.roles, batch, draw, m, p, self._backward)
            found |= {label(name, expert, self.spans): norm for name, norm in norms.items()}
        self.generator.set_state(before)
        self.state.checked = self.state.main_step
        for where in (name for name, norm in found.items() if norm == 0):
            log.warning("no gradient from %s reaches the LoRA at step %d", where, self.state.step)
        self.metrics.write({"step": self.state.step, "kind": "gradients", **found})
