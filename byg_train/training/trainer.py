"""The loop: identity warm-up, then the objective; logs, samples, checkpoints. No equations."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import ConfigError, TrainConfig
from ..config.methods import MethodConfig
from ..core import schedule
from ..core.roles import EditBatch, repeated
from ..data.batches import to_device
from ..objectives import objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import StepOutput
from ..progress import CONSOLE, Progress
from .assembly import RunParts, assemble, settle_dtype
from .checkpoint import checkpoints, load_run, prune, read_about, save_run
from .draws import draw_for
from .forecast import Forecast
from .gradients import term_gradients
from .metrics import Metrics
from .microbatches import MicroBatch, by_expert, gradients, label, means
from .optimizer import learning_rate
from .run_folder import lora_info, newest_samples, remove_half_written, write_loras
from .state import State
from .stopping import NOTHING_LOST, SavedAndStopped, stop_requests, stops_at_once

if TYPE_CHECKING:
    from ..data.items import Dataset

log = logging.getLogger("byg_train")


class TrainingError(RuntimeError):
    """The run cannot go on; what was saved before stays valid."""


def train(
    config: TrainConfig,
    data: Dataset,
    output: Path,
    *,
    device: str,
    resume: bool,
    forecast: Forecast | None = None,
) -> list[Path]:
    """Run (or go on with) a training; returns the final LoRA's file, or those of a pair."""
    with stops_at_once(NOTHING_LOST):
        remove_half_written(output)
        config = settle_dtype(config, output, device, resume=resume)
        trainer = Trainer(config, data, output, assemble(config, data, output, device))
        if resume:
            trainer.resume()
        if trainer.state.step == 0:
            trainer.validate()
    line = Progress(*trainer.state.phase(config), labels=trainer.labels)
    with stop_requests() as stop, line as progress:
        while not trainer.state.finished(config):
            record = trainer.optimizer_step()
            trainer.metrics.write(record)
            progress.show(record, trainer.state.phase(config))
            if forecast and (sentence := forecast.note(record, trainer.state.main_step)):
                CONSOLE.print(sentence, highlight=False)
            trainer.write_what_is_due()
            if stop:
                raise SavedAndStopped(trainer.stopped(), 128 + stop[0])
        trainer.save()
        files = trainer.write_lora(output / f"{output.name}.safetensors")
    done = f"the training is complete, but for its last samples; the LoRA is {listed(files)}"
    with stops_at_once(done):
        trainer.validate()
        trainer.accelerator.end_training()
    return files


def listed(files: Iterable[Path]) -> str:
    """`a`, or `a and b`."""
    return " and ".join(map(str, files))


class Trainer:
    """Everything a run holds, and the few things it does."""

    def __init__(self, config: TrainConfig, data: Dataset, output: Path, parts: RunParts) -> None:
        self.config, self.data, self.output, self.state = config, data, output, State()
        self.accelerator, self.device = parts.accelerator, parts.accelerator.device
        self.backbone, self.bank, self.roles = parts.backbone, parts.bank, parts.roles
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
        began = time.monotonic()
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
        record = self._record(outputs, identity_only) | by_expert(work, outputs, self.spans)
        self._update(record, active)
        record["seconds"] = time.monotonic() - began
        return record

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
        self._expect_a_number(f"loss of the {stage} pass", loss.item())
        factor = 1 / self.config.train.accumulation
        self.accelerator.backward(loss * factor)
        return factor

    def _expect_a_number(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} at step {self.state.step}; the last checkpoint is "
                "intact: lower optimizer.lr and resume from it"
            )

    def _update(self, record: dict, active: list[str]) -> None:
        """An optimiser and EMA step of the active experts: an idle one's gradients are None."""
        parameters = list(self.bank.named_parameters().values())
        limit = self.config.optimizer.max_grad_norm
        record["grad_norm"] = self.accelerator.clip_grad_norm_(parameters, limit).item()
        self._expect_a_number("gradient", record["grad_norm"])
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

    def _record(self, outputs: list[StepOutput], identity_only: bool) -> dict:
        kind = "warmup" if self.state.warming_up else "identity" if identity_only else "full"
        loss = sum(o.loss.item() for o in outputs) / len(outputs)
        return {"step": self.state.step + 1, "kind": kind, "loss": loss, **means(outputs)}

    def _check_gradients(self) -> None:
        """Warn if a loss term stops reaching an expert's weights; takes nothing from the run."""
        self.state.checked = self.state.main_step
        batch = self._rows(self.state.micro)
        before, found = self.generator.get_state(), {}
        for expert in self.spans:
            # All rows: that none was drawn for a term would look like a cut graph.
            draw = self._draw(batch.x, expert)._replace(identity=None, prior_rev=None)
            m, p = self._weights, self.bank.named_parameters()
            norms = term_gradients(self.objective, self.roles, batch, draw, m, p, self._backward)
            found |= {label(name, expert, self.spans): norm for name, norm in norms.items()}
        self.generator.set_state(before)
        for where in (name for name, norm in found.items() if norm == 0):
            log.warning("no gradient from %s reaches the LoRA at step %d", where, self.state.step)
        self.metrics.write({"step": self.state.step, "kind": "gradients", **found})

    # ------------------------------------------------------------ writing

    def write_what_is_due(self) -> None:
        """Samples, LoRA files and checkpoints, when their step has come."""
        t, step = self.config.train, self.state.main_step
        if step == 0 or self.state.finished(self.config):
            return
        if t.sample_every and step % t.sample_every == 0:
            self.validate()
        if step % t.checkpoint_every == 0:
            self.save()
            self.write_lora(self._numbered)

    def validate(self) -> None:
        """Sample the held-out items; warn where they say that something goes wrong."""
        report = self.validator.validate()
        report.save(self.output / "samples", self.state.step)
        late = self.state.main_step > self.config.train.steps // 4  # before, it cannot edit yet
        if late and self.objective.advice:
            for sentence in report.warnings(self.objective.advice):
                log.warning("step %d: %s", self.state.step, sentence)
        measures = {k: v for k, v in report._asdict().items() if isinstance(v, float)}
        self.metrics.write({"step": self.state.step, "kind": "validation", **measures})

    def save(self) -> Path:
        """A checkpoint from which `resume` goes on bitwise (on a CPU)."""
        folder = self.output / "checkpoints" / f"step-{self.state.step:06d}"
        if not folder.exists():
            about = {"counters": asdict(self.state), "data": self.data.fingerprint}
            about["dtype"] = self.config.model.dtype
            save_run(folder, self.bank, self.optimizer, self.generator, about)
            prune(folder.parent, self.config.train.keep_checkpoints)
        return folder

    def resume(self) -> None:
        """Go on from the newest checkpoint; a run that had none begins anew."""
        found = checkpoints(self.output / "checkpoints")
        if not found:
            log.warning("no checkpoint in %s yet: starting from the beginning", self.output)
            self.metrics.forget_after(-1)
            return
        about = read_about(found[-1])
        if about["data"] != self.data.fingerprint:
            raise ConfigError(
                f"{self.config.data.path} is not what this run was trained on (its pictures, texts "
                f"or splits changed since {found[-1].name}): restore it, or start in a new folder"
            )
        load_run(found[-1], self.bank, self.optimizer, self.generator)
        self.state = State(**about["counters"])
        self.metrics.forget_after(self.state.step)

    def write_lora(self, path: Path) -> list[Path]:
        """The live editor as LoRA files: one for each expert."""
        info = lora_info(self.config, self.data, self.backbone.multiple, self.state.step)
        return write_loras(path, self.bank, self.config.model.family, info, self.backbone.spans)

    def stopped(self) -> str:
        """Save everything in the middle of a run; says what there is now."""
        said = f"stopped at step {self.state.step}; everything is saved in {self.save()}."
        if not self.state.warming_up:
            said += f" The LoRA so far is {listed(self.write_lora(self._numbered))}."
        if samples := newest_samples(self.output):
            said += f" The newest samples are {samples}."
        return said

    @property
    def _numbered(self) -> Path:
        """The LoRA file of this step."""
        return self.output / f"{self.output.name}-{self.state.step:06d}.safetensors"
