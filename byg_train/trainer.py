"""The loop: identity warm-up, then Algorithm 1; logs, samples, checkpoints. Knows no equations."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor

from . import schedule
from .assembly import build_model, encode, hold_out, prior_velocity
from .checkpoint import checkpoints, load_run, prune, read_state, save_run
from .config import ConfigError, TrainConfig
from .data.batches import Batches, to_device
from .gradients import term_gradients
from .grid import save_picture
from .lora_file import write_lora
from .metrics import Metrics
from .optimizer import learning_rate
from .progress import Progress
from .run_folder import lora_info, newest_samples, remove_half_written
from .state import State
from .step import StepOutput, Weights, identity_step, staged_step
from .stopping import NOTHING_LOST, Interrupted, stop_requests, stops_at_once

if TYPE_CHECKING:
    from .data.items import Dataset

log = logging.getLogger("byg_train")


class TrainingError(RuntimeError):
    """The run cannot go on; what was saved before stays valid."""


def train(config: TrainConfig, data: Dataset, output: Path, *, device: str, resume: bool) -> Path:
    """Run (or go on with) a training; returns the path of the final LoRA file."""
    with stops_at_once(NOTHING_LOST):
        remove_half_written(output)
        trainer = Trainer(config, data, output, device)
        if resume:
            trainer.resume()
        if trainer.state.step == 0:
            trainer.look()
    with stop_requests() as stop, Progress(*trainer.state.phase(config)) as progress:
        while not trainer.state.finished(config):
            record = trainer.optimizer_step()
            trainer.metrics.write(record)
            progress.show(record, trainer.state.phase(config))
            trainer.write_what_is_due()
            if stop:
                raise Interrupted(trainer.stopped(), 128 + stop[0])
        trainer.save()
        path = trainer.write_lora(output / f"{output.name}.safetensors")
    with stops_at_once(f"the training is complete, but for its last samples; the LoRA is {path}"):
        trainer.look()
        trainer.accelerator.end_training()
    return path


class Trainer:
    """Everything a run holds, and the few things it does."""

    def __init__(self, config: TrainConfig, data: Dataset, output: Path, device: str) -> None:
        self.config, self.data, self.output, self.state = config, data, output, State()
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            log_with=["tensorboard", *(["wandb"] if config.train.wandb else [])],
            project_dir=output,
        )
        self.device = self.accelerator.device
        self.metrics = Metrics(output / "metrics.jsonl", self.accelerator)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.backbone, self.bank, self.optimizer = build_model(config, str(self.device))
        self.cache = encode(config, data, self.backbone)
        self.batches = Batches(data.train, self.cache, config.train.batch_size, config.seed)
        self.held_out = hold_out(config, data, self.cache, self.backbone, self.device)
        velocity, m = self.backbone.velocity, config.method
        self.sampler = partial(velocity, guidance=config.guidance.sample)
        self.roles = self.bank.roles(
            edit=partial(velocity, guidance=config.guidance.train),
            base=prior_velocity(config, self.backbone, self.cache.text("")),
        )
        self.weights = Weights(m.lambda_cycle, m.lambda_prior, m.lambda_id, m.alpha)

    # ------------------------------------------------------------ stepping

    def optimizer_step(self) -> dict:
        """One optimiser step over `accumulation` micro-batches; returns what to log."""
        began = time.monotonic()
        if self.state.warming_up and self._warm_enough():
            self.state.warmup = self.state.step
            self.bank.copy_to_ema()
            if self.state.step:  # a good start for other runs: --set warmup.lora=...
                self.write_lora(self.output / "checkpoints" / "warmup.safetensors")
        chance = torch.rand((), generator=self.generator).item()
        identity_only = self.state.warming_up or chance < self.config.method.identity_probability
        if not identity_only and self.state.check_is_due(self.config.train.check_gradients_every):
            self._check_gradients()
        outputs = [self._micro_step(identity_only) for _ in range(self.config.train.accumulation)]
        record = self._record(outputs, identity_only)
        self._update(record)
        record["seconds"] = time.monotonic() - began
        return record

    def _micro_step(self, identity_only: bool) -> StepOutput:
        batch = to_device(self.batches[self.state.micro], self.device)
        self.state.micro += 1
        draw = self._draw(batch.x)
        if identity_only:
            return identity_step(self.roles, batch, draw, self._backward)
        return staged_step(self.roles, batch, draw, self.weights, self._backward)

    def _draw(self, x: Tensor) -> schedule.Draw:
        config, g = self.config, self.generator
        t = schedule.draw_t(len(x), g, config.time.distribution, config.time.shift)
        eps = torch.randn(x.shape, generator=g)
        grid = schedule.time_grid(config.rollout.steps, config.rollout.shift)
        return schedule.Draw(eps.to(x), t.to(x), grid.to(x))

    def _backward(self, loss: Tensor) -> float:
        self._expect_a_number("loss", loss.item())
        factor = 1 / self.config.train.accumulation
        self.accelerator.backward(loss * factor)
        return factor

    def _expect_a_number(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} at step {self.state.step}; the last checkpoint is "
                "intact: lower optimizer.lr and resume from it"
            )

    def _update(self, record: dict) -> None:
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
            self.bank.update_ema(self.backbone.experts)
        self.state.step += 1
        if self.state.warming_up:
            self.state.note_identity(record["identity"])

    def _warm_enough(self) -> bool:
        w, step = self.config.warmup, self.state.step
        if step >= w.max_steps:
            if w.until is not None:
                log.warning("the warm-up ended at max_steps before the loss fell to warmup.until")
            return True
        if step < w.min_steps:
            return False
        if w.until is None:
            return True
        if self.state.identity is None:
            self.state.identity = self.held_out.identity(self.roles.edit)
        return self.state.identity < w.until

    def _record(self, outputs: list[StepOutput], identity_only: bool) -> dict:
        terms = {
            name: torch.cat([o.terms[name] for o in outputs]).mean().item()
            for name in outputs[0].terms
        }
        kind = "warmup" if self.state.warming_up else "identity" if identity_only else "full"
        loss = sum(o.loss.item() for o in outputs) / len(outputs)
        return {"step": self.state.step + 1, "kind": kind, "loss": loss, **terms}

    def _check_gradients(self) -> None:
        """Warn if a loss term stops reaching the weights; takes nothing from the run."""
        self.state.checked = self.state.main_step
        batch = to_device(self.batches[self.state.micro], self.device)
        before = self.generator.get_state()
        draw = self._draw(batch.x)
        self.generator.set_state(before)
        norms = term_gradients(
            self.roles, batch, draw, self.weights, self.bank.named_parameters(), self._backward
        )
        for where in (name for name, norm in norms.items() if norm == 0):
            log.warning("no gradient from %s reaches the LoRA at step %d", where, self.state.step)
        self.metrics.write({"step": self.state.step, "kind": "gradients", **norms})

    # ------------------------------------------------------------ writing

    def write_what_is_due(self) -> None:
        """Samples, LoRA files and checkpoints, when their step has come."""
        t, step = self.config.train, self.state.main_step
        if step == 0 or self.state.finished(self.config):
            return
        if t.sample_every and step % t.sample_every == 0:
            self.look()
        if step % t.checkpoint_every == 0:
            self.save()
            self.write_lora(self._numbered)

    def look(self) -> None:
        """Sample the held-out items; warn where they say that something goes wrong."""
        look = self.held_out.look(self.roles.edit, self.sampler)
        save_picture(self.output / "samples" / f"step-{self.state.step:06d}.png", look.grid)
        if self.state.main_step > self.config.train.steps // 4:  # before, it cannot edit yet
            for sentence in look.warnings():
                log.warning("step %d: %s", self.state.step, sentence)
        measures = {k: v for k, v in look._asdict().items() if isinstance(v, float)}
        self.metrics.write({"step": self.state.step, "kind": "held_out", **measures})

    def save(self) -> Path:
        """A checkpoint from which `resume` goes on bitwise (on a CPU)."""
        folder = self.output / "checkpoints" / f"step-{self.state.step:06d}"
        if not folder.exists():
            about = {"counters": asdict(self.state), "data": self.data.fingerprint}
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
        about = read_state(found[-1])
        if about["data"] != self.data.fingerprint:
            raise ConfigError(
                f"{self.config.data.path} is not what this run was trained on (its pictures, texts "
                f"or splits changed since {found[-1].name}): restore it, or start a new --output"
            )
        load_run(found[-1], self.bank, self.optimizer, self.generator)
        self.state = State(**about["counters"])
        self.metrics.forget_after(self.state.step)

    def write_lora(self, path: Path) -> Path:
        """The live editor as a LoRA file that ComfyUI and diffusers load."""
        info = lora_info(self.config, self.data, self.backbone.multiple, self.state.step)
        for expert in self.backbone.experts:
            write_lora(
                path,
                self.bank.tensors(expert, "edit"),
                scale=self.bank.scale,
                prefix=f"{expert}.",
                metadata=info.to_metadata(),
            )
        return path

    def stopped(self) -> str:
        """Save everything in the middle of a run; says what there is now, and how to go on."""
        said = f"stopped at step {self.state.step}; everything is saved in {self.save()}. "
        if not self.state.warming_up:
            said += f"The LoRA so far is {self.write_lora(self._numbered)}. "
        if samples := newest_samples(self.output):
            said += f"The newest samples are {samples}. "
        return f"{said}Run the same command with --resume to go on."

    @property
    def _numbered(self) -> Path:
        """The LoRA file of this step."""
        return self.output / f"{self.output.name}-{self.state.step:06d}.safetensors"
