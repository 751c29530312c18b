"""The loop: identity warm-up, then Algorithm 1; logs, samples, checkpoints. Knows no equations."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor

from . import schedule
from .backbones import Text, load_backbone
from .checkpoint import (
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    load_random_state,
    optimizer_state,
    prune,
    random_state,
    save_checkpoint,
)
from .config import ConfigError, TrainConfig
from .data.batches import Batches, collate
from .data.cache import Cache
from .gradients import term_gradients
from .grid import save_picture
from .lora import LoraBank
from .lora_file import read_lora, write_lora
from .metrics import Metrics
from .optimizer import build_optimizer, learning_rate
from .progress import Progress
from .run_folder import lora_info
from .samples import HeldOut
from .step import EditBatch, StepOutput, Weights, identity_step, staged_step
from .stopping import Interrupted, stop_requests

if TYPE_CHECKING:
    from .data.items import Dataset

log = logging.getLogger("byg_train")
WORLD = Path(__file__).parent / "world"


class TrainingError(RuntimeError):
    """The run cannot go on; what was saved before stays valid."""


@dataclass
class State:
    """Counters of a run; all in optimiser steps but `micro`."""

    step: int = 0  # all steps taken, warm-up included
    warmup: int | None = None  # how many of them were warm-up; None while it lasts
    micro: int = 0  # micro-batches taken: the position in the data order
    identity: float | None = None  # running identity loss of the warm-up


def train(config: TrainConfig, data: Dataset, output: Path, *, device: str, resume: bool) -> Path:
    """Run (or go on with) a training; returns the path of the final LoRA file."""
    trainer = Trainer(config, data, output, device)
    if resume:
        trainer.resume()
    with stop_requests() as stop, Progress(config.train.steps) as progress:
        if trainer.state.step == 0:
            trainer.look()
        while not trainer.finished:
            record = trainer.optimizer_step()
            trainer.metrics.write(record)
            progress.show(record, trainer.warming_up, trainer.main_step)
            trainer.write_what_is_due()
            if stop:
                path = trainer.save()
                raise Interrupted(
                    f"stopped at step {trainer.state.step}; everything is saved in {path}. "
                    "Run the same command with --resume to go on.",
                    128 + stop[0],
                )
    return trainer.finish()


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
        self.backbone = load_backbone(config.model, str(self.device))
        self._encode()
        self.bank = LoraBank(
            self.backbone.experts, config.lora, config.method.ema_decay, config.seed
        )
        if config.warmup.lora:
            self._start_from(config.warmup.lora)
        guidance = config.guidance
        edit = partial(self.backbone.velocity, guidance=guidance.train)
        self.sampler = partial(self.backbone.velocity, guidance=guidance.sample)
        self.roles = self.bank.roles(edit, self._prior)
        self.optimizer = build_optimizer(config, list(self.bank.named_parameters().values()))
        m = config.method
        self.weights = Weights(m.lambda_cycle, m.lambda_prior, m.lambda_id, m.alpha)
        self.held_out = self._hold_out()

    # ------------------------------------------------------------ setting up

    def _encode(self) -> None:
        """Latents and embeddings of every item, from the cache where it has them."""
        config, items = self.config, [*self.data.train, *self.data.test]
        folder = config.data.cache or Path(config.data.path) / ".byg_cache"
        self.cache = Cache(folder, self.backbone, config.data)
        with Progress(len(items), "encoding") as progress:
            self.cache.prepare(items, [""], progress.advance)
        self.empty = self._text(self.cache.text(""))
        self.backbone.drop_encoders()
        self.batches = Batches(self.data.train, self.cache, config.train.batch_size, config.seed)

    def _start_from(self, lora: str) -> None:
        path = WORLD / "warmup.safetensors" if lora == "world" else Path(lora)
        for expert in self.backbone.experts:
            self.bank.load_tensors(expert, read_lora(path).tensors)

    def _hold_out(self) -> HeldOut:
        """The first held-out items of one bucket: a batch has one size."""
        items = self.data.test or self.data.train
        bucket = self.cache.bucket(items[0])
        shown = [i for i in items if self.cache.bucket(i) == bucket][: self.config.sample.count]
        batch = self._to_device(collate(shown, self.cache))
        return HeldOut(batch, [i.instruction for i in shown], self.backbone, self.config)

    def _text(self, row: Text) -> Text:
        return {name: tensor[None].to(self.device) for name, tensor in row.items()}

    def _to_device(self, batch: EditBatch) -> EditBatch:
        def moved(part: Tensor | Text) -> Tensor | Text:
            if isinstance(part, Tensor):
                return part.to(self.device)
            return {name: tensor.to(self.device) for name, tensor in part.items()}

        return EditBatch(*map(moved, batch))

    def _prior(self, x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        """The frozen base, with classifier-free guidance where `prior_guidance` is not 1."""
        velocity = partial(self.backbone.velocity, x_t, t, guidance=self.config.guidance.prior)
        v, w = velocity(text, source), self.config.method.prior_guidance
        if w == 1:
            return v
        nothing = {k: e.expand(len(x_t), *e.shape[1:]) for k, e in self.empty.items()}
        v_empty = velocity(nothing, source)
        return v_empty + w * (v - v_empty)

    # ------------------------------------------------------------ stepping

    @property
    def warming_up(self) -> bool:
        return self.state.warmup is None

    @property
    def main_step(self) -> int:
        """Steps of the method itself."""
        return 0 if self.state.warmup is None else self.state.step - self.state.warmup

    @property
    def finished(self) -> bool:
        return self.main_step >= self.config.train.steps

    def optimizer_step(self) -> dict:
        """One optimiser step over `accumulation` micro-batches; returns what to log."""
        began = time.monotonic()
        if self.warming_up and self._warm_enough():
            self.state.warmup = self.state.step
            self.bank.copy_to_ema()
            if self.state.step:  # a good start for other runs: --set warmup.lora=...
                self.write_lora(self.output / "checkpoints" / "warmup.safetensors")
        chance = torch.rand((), generator=self.generator).item()
        identity_only = self.warming_up or chance < self.config.method.identity_probability
        every = self.config.train.check_gradients_every
        if not identity_only and self.main_step % every == 0:
            self._check_gradients()
        outputs = [self._micro_step(identity_only) for _ in range(self.config.train.accumulation)]
        record = self._record(outputs, identity_only)
        self._update(record)
        record["seconds"] = time.monotonic() - began
        return record

    def _micro_step(self, identity_only: bool) -> StepOutput:
        batch = self._to_device(self.batches[self.state.micro])
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
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.state.step}; "
                f"the last checkpoint is intact: lower optimizer.lr and resume from it"
            )
        factor = 1 / self.config.train.accumulation
        self.accelerator.backward(loss * factor)
        return factor

    def _update(self, record: dict) -> None:
        parameters = list(self.bank.named_parameters().values())
        limit = self.config.optimizer.max_grad_norm
        record["grad_norm"] = self.accelerator.clip_grad_norm_(parameters, limit).item()
        if not math.isfinite(record["grad_norm"]):
            raise TrainingError(
                f"the gradient became {record['grad_norm']} at step {self.state.step}; the last "
                "checkpoint is intact: lower optimizer.lr and resume from it"
            )
        record["lr"] = learning_rate(self.config, self.state.step, self.main_step)
        for group in self.optimizer.param_groups:
            group["lr"] = record["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.warming_up:
            self.bank.update_ema()
        self.state.step += 1
        if self.warming_up:
            now = record["identity"]
            before = now if self.state.identity is None else self.state.identity
            self.state.identity = 0.9 * before + 0.1 * now

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
        kind = "warmup" if self.warming_up else "identity" if identity_only else "full"
        loss = sum(o.loss.item() for o in outputs) / len(outputs)
        return {"step": self.state.step + 1, "kind": kind, "loss": loss, **terms}

    def _check_gradients(self) -> None:
        """Warn if a loss term stops reaching the weights; takes nothing from the run."""
        batch, before = self._to_device(self.batches[self.state.micro]), self.generator.get_state()
        draw = self._draw(batch.x)
        self.generator.set_state(before)
        norms = term_gradients(
            self.roles, batch, draw, self.weights, self.bank.named_parameters(), self._backward
        )
        for where in (name for name, norm in norms.items() if norm == 0):
            log.warning("no gradient from %s reaches the LoRA at step %d", where, self.state.step)
        self.metrics.write({"step": self.state.step, "kind": "gradients", **norms})

    # ------------------------------------------------------------ writing

    @property
    def name(self) -> str:
        return self.output.name

    def write_what_is_due(self) -> None:
        """Samples, LoRA files and checkpoints, when their step has come."""
        t, step = self.config.train, self.main_step
        if self.warming_up or step == 0 or self.finished:
            return
        if t.sample_every and step % t.sample_every == 0:
            self.look()
        if step % t.checkpoint_every == 0:
            self.save()
            self.write_lora(self.output / f"{self.name}-{self.state.step:06d}.safetensors")

    def look(self) -> None:
        """Sample the held-out items; warn where they say that something goes wrong."""
        look = self.held_out.look(self.roles.edit, self.sampler)
        save_picture(self.output / "samples" / f"step-{self.state.step:06d}.png", look.grid)
        if self.main_step > self.config.train.steps // 4:  # before, it cannot edit yet
            for sentence in look.warnings():
                log.warning("step %d: %s", self.state.step, sentence)
        measures = {k: v for k, v in look._asdict().items() if isinstance(v, float)}
        self.metrics.write({"step": self.state.step, "kind": "held_out", **measures})

    def save(self) -> Path:
        """A checkpoint from which `resume` goes on bitwise (on a CPU)."""
        folder = self.output / "checkpoints" / f"step-{self.state.step:06d}"
        if not folder.exists():
            tensors, values = optimizer_state(self.optimizer)
            bank, counts = self.bank.state_dict()
            parts = {"lora": bank, "optimizer": tensors, "random": random_state(self.generator)}
            state = {
                "counters": asdict(self.state),
                "data": self.data.fingerprint,
                "optimizer": values,
                "ema": counts,
            }
            save_checkpoint(folder, parts, state)
            prune(folder.parent, self.config.train.keep_checkpoints)
        return folder

    def resume(self) -> None:
        """Go on from the newest checkpoint; a run that had none begins anew."""
        found = checkpoints(self.output / "checkpoints")
        if not found:
            log.warning("no checkpoint in %s yet: starting from the beginning", self.output)
            self.metrics.forget_after(-1)
            return
        parts, state = load_checkpoint(found[-1])
        if state["data"] != self.data.fingerprint:
            raise ConfigError(
                f"{self.config.data.path} is not what this run was trained on (its pictures, texts "
                f"or splits changed since {found[-1].name}): restore it, or start a new --output"
            )
        self.state = State(**state["counters"])
        self.bank.load_state_dict(parts["lora"], state["ema"])
        load_optimizer_state(self.optimizer, (parts["optimizer"], state["optimizer"]))
        load_random_state(self.generator, parts["random"])
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

    def finish(self) -> Path:
        """The last checkpoint and LoRA, then the last look."""
        self.save()
        path = self.write_lora(self.output / f"{self.name}.safetensors")
        self.look()
        self.accelerator.end_training()
        return path
