"""What a run writes while it trains, and how it goes on from there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, TrainConfig
from ..objectives.identity import IDENTITY
from ..progress import Progress, watched
from .checkpoint import checkpoints, load_run, prune, read_about, save_run
from .microbatches import label
from .run_folder import lora_info, newest_samples, write_loras
from .source_watch import EVERY, LOST, alarm, awaited, is_due, kept
from .state import State
from .stopping import HalfStep

if TYPE_CHECKING:
    import torch

    from ..data.items import Dataset
    from ..models.backbone import Backbone
    from ..models.lora import LoraBank
    from ..objectives.objective import Advice, Objective
    from .metrics import Metrics
    from .processes import Processes
    from .validation import Validator

log = logging.getLogger("byg_train")


class Keeper:
    """The half of a trainer that keeps what it has done."""

    config: TrainConfig
    data: Dataset
    output: Path
    state: State
    backbone: Backbone
    bank: LoraBank
    optimizer: torch.optim.Optimizer
    helper_optimizer: torch.optim.Optimizer | None  # of what is trained beside the editor
    processes: Processes
    validator: Validator
    objective: Objective
    metrics: Metrics
    line: Progress | None  # the training's, while it trains
    losing: bool  # whether the source was being lost when that was last looked at
    told_lost: int | None  # the step at which that was last said
    awaits: bool  # whether it was said that a gentle end is to bring it back
    saved: float  # when there last was a checkpoint, on the monotonic clock

    def is_asked(self) -> bool:
        """Whether to stop here, in the middle of work."""

    def heed(self) -> None:
        """`HalfStep` where a stop was asked for."""
        if self.is_asked():
            raise HalfStep

    @property
    def labels(self) -> dict[str, str]:
        """What the progress line calls every term of the run, the warm-up's included."""
        helper = self.objective.helper.objective.terms if self.helper_optimizer else ()
        return {t.name: t.label for t in (*self.objective.terms, *helper, *IDENTITY.terms)}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by their names in checkpoints."""
        found = {"optimizer": self.optimizer, "helper_optimizer": self.helper_optimizer}
        return {name: one for name, one in found.items() if one is not None}

    def write_what_is_due(self) -> None:
        """Samples, LoRA files and checkpoints, when their step or their time has come."""
        t, step = self.config.train, self.state.main_step
        if self.state.finished(self.config):
            return
        if t.checkpoint_minutes and time.monotonic() - self.saved > 60 * t.checkpoint_minutes:
            self.save()
        if step and t.sample_every and step % t.sample_every == 0:
            self.validate()
        if step and step % t.checkpoint_every == 0:
            self.save()
            self.write_lora(self._numbered)

    def watch_source(self) -> None:
        """Now and then, how much of the source is kept; an alarm when it becomes too little."""
        if not self.objective.advice or self.state.warming_up or self.state.main_step % EVERY:
            return

        with self.processes.together():
            lost = self.validator.watch.lost(self.heed)
        worst, before = max(lost.values()), self.losing
        shares = {label("lost", expert, lost): share for expert, share in lost.items()}
        self.metrics.write({"step": self.state.step, "kind": "source", **shares})
        self.losing = worst > LOST and self.source_is_due
        if self.line:
            self.line.said = f"source {kept(worst)}"
        if self.losing and not before:
            self.told_lost = self.state.step
            log.warning("step %d: %s", self.state.step, alarm(worst, self.advice.lost))
        elif worst > LOST and not (self.source_is_due or self.awaits) and self.is_before_turn:
            self.awaits = True
            said = awaited(worst, self.state.warmup + self.turn)
            log.info("step %d: %s", self.state.step, said)

    @property
    def advice(self) -> Advice:
        """What the objective advises, as far as its warm-up taught the editor to copy."""
        usual = self.objective.advice
        return usual._replace(lost=self.validator.watch.advice(usual.lost))

    @property
    def source_is_due(self) -> bool:
        """Whether the source should be kept by now."""
        return is_due(self.config, self.state.main_step / self.config.train.steps)

    @property
    def turn(self) -> int:
        """The method's own step from which its last weights hold."""
        exact = self.config.method.settled_from * self.config.train.steps
        return ceil(exact - 1e-6)  # 0.55 x 6000 is a little more than 3300

    @property
    def is_before_turn(self) -> bool:
        """Whether other weights are still to come."""
        return self.state.main_step < self.turn < self.config.train.steps

    def gentle_end(self) -> str:
        """When the weights of the losses change, for a run that is before that; else nothing."""
        if not self.is_before_turn:
            return ""
        method, ends = self.config.method, self.config.method.after(1.0)
        return (
            f"lambda_prior {method.lambda_prior:g} and alpha {method.alpha:g} hold for "
            f"{self.turn} of the {self.config.train.steps} steps, then {ends.lambda_prior:g} and "
            f"{ends.alpha:g} (method.gentle_from {method.gentle_from:g})"
        )

    def samples_are_missing(self) -> bool:
        """Whether samples of this step are due and not there, as a stop left them."""
        t, step = self.config.train, self.state.main_step
        due = step and t.sample_every and step % t.sample_every == 0
        if self.state.step == 0:
            due = t.sample_first
        missing = bool(due) and not self.metrics.has("validation", self.state.step)
        return self.processes.of_main(lambda: missing)

    def validate(self) -> None:
        """Sample the held-out items; warn where they say that something goes wrong."""
        with watched(self.validator.evaluations, "samples", self.line) as advance:

            def each() -> None:
                self.heed()
                advance()

            report = self.validator.validate(each)
        if not self.processes.is_main:
            return
        report.save(self.output / "samples", self.state.step)
        late = self.state.main_step > self.config.train.steps // 4  # before, it cannot edit yet
        if late and self.objective.advice:
            # A lost source that was told on the way is told once more, at the end.
            again = self.state.finished(self.config) and self.told_lost != self.state.step
            due = self.source_is_due and (not self.losing or again)
            for sentence in report.warnings(self.advice, due):
                log.warning("step %d: %s", self.state.step, sentence)
        measures = {k: v for k, v in report._asdict().items() if isinstance(v, float)}
        self.metrics.write({"step": self.state.step, "kind": "validation", **measures})

    def save(self) -> Path:
        """A checkpoint from which `resume` goes on bitwise (on a CPU)."""
        folder = self.output / "checkpoints" / f"step-{self.state.step:06d}"
        if self.processes.is_main and not folder.exists():
            about = {"counters": asdict(self.state), "data": self.data.fingerprint}
            about["dtype"] = self.config.model.dtype
            save_run(folder, self.bank, self.optimizers, about)
            prune(folder.parent, self.config.train.keep_checkpoints)
        self.saved = time.monotonic()
        return folder

    def resume(self) -> None:
        """Go on from the newest checkpoint; a run that had none begins anew."""
        names = self.processes.of_main(
            lambda: [folder.name for folder in checkpoints(self.output / "checkpoints")]
        )
        found = [self.output / "checkpoints" / name for name in names]
        loras = [file.name for file in sorted(self.output.glob("*.safetensors"))]
        if not found and loras:
            raise ConfigError(
                f"{self.output} has no checkpoint to go on from, and a new start would write over "
                f"its LoRAs ({', '.join(loras)}): start from one of them in a new folder (--init)"
            )
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
        load_run(found[-1], self.bank, self.optimizers)
        self.state = State.of(about["counters"])
        self.validator.watch.copied = self.state.copied
        self.metrics.forget_after(self.state.step)

    def write_lora(self, path: Path) -> list[Path]:
        """The live editor as LoRA files: one for each expert."""
        if not self.processes.is_main:
            return []
        info = lora_info(self.config, self.data, self.backbone.multiple, self.state.step)
        return write_loras(path, self.bank, self.config.model.family, info, self.backbone.spans)

    def stopped(self) -> str:
        """Save everything in the middle of a run; says what there is now."""
        said = f"stopped at step {self.state.step}; everything is saved in {self.save()}."
        if not self.state.warming_up:
            said += f" The LoRA so far is {listed(self.write_lora(self._numbered))}."
        if samples := newest_samples(self.output):
            said += f" The newest samples are {samples}."
        self.processes.meet()  # nobody ends before all is written: their launcher would end all
        return said

    @property
    def _numbered(self) -> Path:
        """The LoRA file of this step."""
        return self.output / f"{self.output.name}-{self.state.step:06d}.safetensors"


def listed(files: Iterable[Path]) -> str:
    """`a`, or `a and b`."""
    return " and ".join(map(str, files))
