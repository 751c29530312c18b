"""The loop: identity warm-up, then the objective; logs, samples, checkpoints. No equations."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import TrainConfig
from ..core import schedule
from ..objectives import objective_of
from ..objectives.identity import IDENTITY
from ..objectives.objective import StepOutput
from ..progress import CONSOLE, Progress
from .assembly import RunParts, assemble, settle_dtype
from .cost import Memory
from .draws import draw_identity_only
from .forecast import Forecast
from .gradients import term_gradients
from .keeper import listed
from .metrics import METRICS, Metrics
from .microbatches import MicroBatch, Passes, label
from .optimizer import learning_rate, set_rate
from .peak import Watch
from .processes import processes
from .run_folder import remove_half_written
from .state import State
from .state import TrainingError as TrainingError  # what a step may raise
from .stopping import NOTHING_LOST, HalfStep, SavedAndStopped, heedful, stop_requests, stops_at_once
from .updates import Updates
from .weights_check import warn_of_text_to_image

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
    reweigh: bool = False,
) -> list[Path]:
    """Run (or go on with) a training; returns the final LoRA's file, or those of a pair.

    What was forecast and planned is said beside what the first steps take. `reweigh`: the weights
    of the losses are not those of the run so far, and where they lead is asked once more.
    """
    with processes().joined():
        trainer = _begun(config, data, output, device, resume, reweigh)
        line = Progress(*trainer.state.phase(trainer.config), labels=trainer.labels)
        watch = Watch(planned, trainer.device, trainer.backbone.experts.parameters())
        with stop_requests(trainer.stop) as stop, line as trainer.line:
            while not trainer.state.finished(trainer.config):
                with suppress(HalfStep):
                    _step(trainer, forecast, watch)
                if trainer.processes.meet(halt=bool(stop)):
                    code = 128 + (stop or [signal.SIGTERM])[0]
                    raise SavedAndStopped(trainer.stopped(), code)
            trainer.save()
            files = trainer.write_lora(output / f"{output.name}.safetensors")
        trainer.line = None
        done = f"the training is complete, but for its last samples; the LoRA is {listed(files)}"
        with stops_at_once(done):
            trainer.validate()
            trainer.accelerator.end_training()
        return files


def _begun(
    config: TrainConfig, data: Dataset, output: Path, device: str, resume: bool, reweigh: bool
) -> Trainer:
    """A trainer in front of its next step, with the samples that are due before it."""
    with stops_at_once(NOTHING_LOST):
        if processes().is_main:
            remove_half_written(output)
        config = settle_dtype(config, output, device, resume=resume)
        parts = assemble(config, data, output, device)
        trainer = Trainer(config, data, output, parts)
        if resume:
            trainer.resume()
        if config.train.weigh_losses and (reweigh or trainer.state.step == 0):
            base = parts.roles.base  # the trainer's own heeds stops, of other processes too
            warn_of_text_to_image(config, base, parts.batches, trainer.spans, trainer.device)
        if trainer.state.step == 0 and not trainer.still_warming_up():
            trainer.end_warmup()  # what is kept is a share of what a finished warm-up keeps
        if trainer.samples_are_missing():
            trainer.validate()
        if said := trainer.gentle_end():
            log.info(said)
    return trainer


def _step(trainer: Trainer, forecast: Forecast | None, watch: Watch) -> None:
    """A step, what is to be said of it, and what is due after it."""
    with trainer.whole():
        record, peak = watch.step(trainer.optimizer_step, warming_up=trainer.state.warming_up)
    trainer.metrics.write(record)
    trainer.watch_source()
    trainer.line.show(record, trainer.state.phase(trainer.config))
    expected = forecast.note(record, trainer.state.main_step) if forecast else None
    for sentence in filter(None, (peak, expected)):
        CONSOLE.print(sentence, highlight=False)
    trainer.write_what_is_due()


class Trainer(Updates):
    """Everything a run holds, and the few things it does."""

    def __init__(self, config: TrainConfig, data: Dataset, output: Path, parts: RunParts) -> None:
        self.config, self.data, self.output, self.state = config, data, output, State()
        self.accelerator, self.device = parts.accelerator, parts.accelerator.device
        self.backbone, self.bank = parts.backbone, parts.bank
        self.processes = processes()
        self.stop: list[int] = []  # the signals that asked for it
        self.processes.listen(self.stop)
        # So many items in a row are asked for the same, where their processes share the weights.
        self.alike = self.processes.world if config.model.placement == "sharded" else 1
        networks = {
            n: r for n, r in parts.roles._asdict().items() if r is not None and n != "judge"
        }
        heedfully = {name: heedful(role, self.is_asked) for name, role in networks.items()}
        self.roles = parts.roles._replace(**heedfully)
        self.line: Progress | None = None
        self.losing = self.awaits = False
        self.told_lost: int | None = None
        self.saved, self.passes = time.monotonic(), Passes(0)
        self.optimizer, self.validator = parts.optimizer, parts.validator
        self.helper_optimizer = parts.helper_optimizer
        self.cache, self.batches = parts.cache, parts.batches
        self.objective = objective_of(config)
        self.metrics = Metrics(output / METRICS, self.accelerator)
        self.spans = {expert: self.backbone.spans[expert] for expert in self.bank.experts}

    def is_asked(self) -> bool:
        """Whether to stop here; where all share every forward, whether anyone is asked to."""
        return self.processes.meet(bool(self.stop)) if self.alike > 1 else bool(self.stop)

    # ------------------------------------------------------------ stepping

    def optimizer_step(self) -> dict:
        """Take one optimiser step over the global batch; returns what to log."""
        began, self.passes = time.monotonic(), Passes(self.state.step)
        spans = self.still_warming_up() if self.state.warming_up else self.spans
        if not spans:
            self.end_warmup()
            spans = self.spans
        helped = {} if self.state.warming_up else self.help_editor(spans)
        identity_only = self.state.warming_up or draw_identity_only(self.config, self.state.step)
        every = self.config.train.check_gradients_every
        with self.processes.together():
            if not identity_only and self.objective.is_checked and self.state.check_is_due(every):
                self._check_gradients()
            work = self._micro_batches(spans)
            outputs = self._taken(IDENTITY if identity_only else self.objective, work)
        active = self._active(spans, identity_only)
        self._add_up(active)
        record = self._measured(work, outputs, identity_only) | helped
        self._update(record, active)
        record["seconds"] = time.monotonic() - began
        return record

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Take the step inside whole or, if a stop comes in between, not at all."""
        before = deepcopy(self.state)
        try:
            yield
        except HalfStep:
            now = self.state
            before.checked, before.helped, before.skipped = now.checked, now.helped, now.skipped
            self.state = before
            for optimizer in self.optimizers.values():
                optimizer.zero_grad()
            raise

    def _update(self, record: dict, active: list[str]) -> None:
        """An optimiser and EMA step of the active experts: an idle one's gradients are None."""
        record["lr"] = learning_rate(self.config, self.state.step, self.state.main_step)
        set_rate(self.optimizer, record["lr"])
        if not record.get("skipped"):
            self.optimizer.step()
            if not self.state.warming_up:
                self.bank.update_ema(active)
        self.optimizer.zero_grad()
        self.state.step, self.state.helped = self.state.step + 1, 0
        if self.state.warming_up and not record.get("skipped"):
            for expert in active:
                self.state.note_identity(expert, record[label("identity", expert, self.spans)])

    def still_warming_up(self) -> dict[str, schedule.Span]:
        """The experts whose warm-up must go on, and their times."""
        w, state = self.config.warmup, self.state
        if w.until is not None and w.min_steps <= state.step < w.max_steps:
            for expert in (e for e in self.spans if e not in state.identity):
                state.identity[expert] = self.validator.identity(expert)
        return {
            expert: self.spans[expert] for expert in state.still_warming_up(self.config, self.spans)
        }

    def end_warmup(self) -> None:
        """Begin the method itself: what the editor copies now is what it may lose."""
        w, step = self.config.warmup, self.state.step
        if w.until is not None and step >= w.max_steps:
            log.warning("the warm-up ended at max_steps before the loss fell to warmup.until")
        # A LoRA that was named without a warm-up (--init) may be an editor's, which has lost some.
        if not w.lora or w.max_steps:
            with self.processes.together():
                self.validator.watch.copied = self.validator.watch.identity(self.heed)
        self.state.warmup, self.state.copied = step, self.validator.watch.copied
        self.bank.copy_to_ema()
        if step:  # a good start for other runs: warmup.lora
            self.write_lora(self.output / "checkpoints" / "warmup.safetensors")

    def _measured(
        self, work: list[MicroBatch], outputs: list[StepOutput], identity_only: bool
    ) -> dict:
        kind = "warmup" if self.state.warming_up else "identity" if identity_only else "full"
        numbers = self._numbers(work, outputs, "edit")
        return {"step": self.state.step + 1, "kind": kind, **numbers}

    def _check_gradients(self) -> None:
        """Warn if a loss term stops reaching an expert's weights; takes nothing from the run."""
        place = self.processes.rank
        item = self._item(place)
        found = {}
        for expert in self.spans:
            batch, draw = next(self._drawn(expert, [(place, item)]))[1:3]
            # All rows: that none was drawn for a term would look like a cut graph.
            draw = draw._replace(identity=None, prior_rev=None)
            m, p = self._weights, self.bank.named_parameters()
            norms = term_gradients(self.objective, self.roles, batch, draw, m, p, self._backward)
            found |= {label(name, expert, self.spans): norm for name, norm in norms.items()}
        self.state.checked = self.state.main_step
        for where in (name for name, norm in found.items() if norm == 0):
            log.warning("no gradient from %s reaches the LoRA at step %d", where, self.state.step)
        self.metrics.write({"step": self.state.step, "kind": "gradients", **found})
