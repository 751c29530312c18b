"""All runs of the ablation study and their scores, several at once; a table, a plot."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..config import ConfigError, TrainConfig, merge_settings, nearest
from ..family import family_of
from ..files import write_json, write_text
from ..machine import resolve_dtype, usable_cpus
from ..training.doctor import machine
from ..training.metrics import METRICS, seconds_of
from ..training.run_folder import CONFIG, differences, read_config
from . import ablation
from .demo import WHOLE

ABOUT, TABLE, PLOT = "ablation.json", "ablation.md", "ablation.png"
SCORES, LOGS = "scores.json", "logs"
PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """One row at one seed: a training and its scoring, or the scoring of all baselines."""

    row: str  # of ROWS, or "baselines"
    seed: int
    output: Path
    training: list[str]  # the command's arguments; empty for baselines
    config: TrainConfig | None

    @property
    def name(self) -> str:
        """The name of its folder and its log."""
        return f"{self.row}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.output / self.name

    @property
    def lora(self) -> Path:
        """The file that training ends with."""
        return self.folder / f"{self.name}.safetensors"


class AblationStudy:
    """The runs of a study in one folder; what is finished there is kept.

    Args:
        preset: one that trains the embedded world of pictures.
        output: folder of all runs and of the table.
        seeds: runs of every row.
        steps: optimiser steps of every run; None: the preset's.
        rows: names of ROWS and `baselines`; none: all.
        queries: held-out edits of each type.
        assignments: settings of every run, `section.key=value`.
    """

    def __init__(
        self,
        preset: str,
        output: Path,
        *,
        seeds: int,
        steps: int | None,
        rows: list[str],
        queries: int,
        assignments: Iterable[str],
    ) -> None:
        model = merge_settings(preset).model
        if not model.is_embedded or family_of(model.family).is_video:
            raise ConfigError(
                f"preset {preset}: the study needs the true edit of every picture, which the "
                "embedded world alone can draw; take the preset demo"
            )
        known = [*ablation.ROWS, "baselines"]
        for name in rows:
            if name not in known:
                raise ConfigError(f"row {name}{nearest(name, known)} (known: {', '.join(known)})")
        self.preset, self.output, self.queries, self.steps = preset, output, queries, steps
        self.assignments = [*assignments]
        chosen = [name for name in known if not rows or name in rows]
        # All seeds of one row after the other would show a table late: seed by seed.
        self.jobs = [
            self._job(row, seed, steps, self.assignments) for seed in range(seeds) for row in chosen
        ]
        self._expect_same()
        if importlib.util.find_spec("matplotlib") is None:
            raise ConfigError('the study draws a plot with matplotlib: pip install -e ".[eval]"')

    def _job(self, name: str, seed: int, steps: int | None, assignments: list[str]) -> Job:
        if name == "baselines":
            return Job(name, seed, self.output, [], None)
        row, output = ablation.ROWS[name], self.output.resolve()
        data = output / ("pairs" if row.pairs else "data")
        # Validation and checks cost time and change nothing; one cache serves all.
        quick = ("train.sample_every=0", "train.check_gradients_every=1000000")
        usual = (*quick, *ablation.FULL)
        assignments = [*usual, f"data.cache={output / 'cache'}", *assignments, *row.settings]
        config = merge_settings(
            self.preset, data=data, steps=steps, seed=seed, assignments=assignments
        )
        training = ["--preset", self.preset, "--data", str(data), "--seed", str(seed)]
        training += ["--steps", str(config.train.steps)]
        training += [part for each in assignments for part in ("--set", each)]
        return Job(name, seed, self.output, training, config)

    def _expect_same(self) -> None:
        """Refuse to mix runs of other settings or pictures, or on another base, into one table."""
        about = self.output / ABOUT
        try:
            there = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
            base = there.get("base", ablation.base_digest())
            preset = there.get("preset", self.preset)
        except (ValueError, AttributeError):
            raise ConfigError(f"{about} is not a study's; choose another folder") from None
        if base != ablation.base_digest():
            raise ConfigError(
                f"{self.output} holds runs on another base or warm-up than the shipped one; "
                "choose another folder"
            )
        if preset != self.preset:
            raise ConfigError(
                f"{self.output} holds pictures of the preset {preset}, not of {self.preset}; "
                "choose another folder"
            )
        for job in self.jobs:
            if changed := _changed(job):
                raise ConfigError(
                    f"{job.folder} was trained with other settings: {'; '.join(changed)}. "
                    "Choose another folder"
                )

    def _with_earlier(self) -> list[Job]:
        """The jobs of this call, and what earlier ones made of other rows by the same settings."""
        jobs = {job.name: job for job in self.jobs}
        for row in (*ablation.ROWS, "baselines"):
            for folder in self.output.glob(f"{row}-seed*"):
                seed = folder.name.removeprefix(f"{row}-seed")
                if folder.name not in jobs and seed.isdecimal():
                    job = self._job(row, int(seed), self.steps, self.assignments)
                    with suppress(ConfigError):  # nobody asked for it: what is damaged stays out
                        jobs |= {job.name: job} if not _changed(job) else {}
        return [*jobs.values()]

    def prepare(self) -> None:
        """Draw the training pictures, and their true edits for the supervised row."""
        if not (self.output / ABOUT).exists():
            about = {"base": ablation.base_digest(), "preset": self.preset}
            write_json(self.output / ABOUT, about)
        demo = WHOLE[self.preset]
        demo.prepare(self.output / "data")
        demo.prepare(self.output / "pairs", pairs=True)

    def left(self) -> list[Job]:
        """What is not scored yet."""
        return [job for job in self.jobs if not self._scored(job)]

    def log(self, job: Job) -> Path:
        """What its processes print."""
        return self.output / LOGS / f"{job.name}.log"

    def _scored(self, job: Job) -> dict | None:
        lora = job.lora if job.training else None
        return ablation.read_scores(job.folder / SCORES, lora, self.queries)

    # ---------------------------------------------------------------- doing it

    def run(self, at_once: int, device: str, on_end: Callable[[Job, bool], None]) -> None:
        """Do what is left and write the table again after every job.

        Args:
            at_once: processes that share the cores.
            device: cpu or cuda.
            on_end: gets every job, and whether it went well.
        """
        processes = Subprocesses(max(1, usable_cpus() // at_once))
        pool = ThreadPoolExecutor(at_once)
        try:
            running = {pool.submit(self._one, job, device, processes): job for job in self.left()}
            for future in as_completed(running):
                on_end(running[future], future.result())
                self.write()
        except BaseException:
            processes.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, job: Job, device: str, processes: Subprocesses) -> bool:
        """Train, if that is left, and score; whether both went well."""
        log = self.log(job)
        scoring = [
            "byg_train.world.ablation", str(job.folder / SCORES), "--queries", str(self.queries),
            "--seed", str(job.seed), "--device", device,
        ]  # fmt: skip
        if job.training and not job.lora.exists():
            resume = ["--resume"] if (job.folder / CONFIG).exists() else []
            training = ["byg_train", *job.training, "--output", str(job.folder)]
            if not processes.run([*training, "--device", device, *resume], log):
                return False
        lora = ["--lora", str(job.lora)] if job.training else []
        return processes.run([*scoring, *lora], log)

    # ---------------------------------------------------------------- the table

    def write(self) -> str:
        """Table and plot of all that is scored; returns the table, empty if nothing is."""
        runs: dict[str, dict[int, dict]] = {}
        jobs = self._with_earlier()
        for job in jobs:
            for method, scores in (self._scored(job) or {}).items():
                row = job.row if method == ablation.TRAINED else method
                runs.setdefault(row, {})[job.seed] = scores
        rows = {**ablation.ROWS, **ablation.BASELINES}
        shown = {name: ablation.result(rows[name], runs[name]) for name in rows if name in runs}
        if not shown:
            return ""
        table = ablation.markdown(shown)
        write_json(self.output / ABOUT, self._about(shown, jobs))
        write_text(self.output / TABLE, table)
        ablation.plot([(result, _part(name)) for name, result in shown.items()], self.output / PLOT)
        return table

    def _about(self, shown: dict[str, ablation.Result], jobs: list[Job]) -> dict:
        full = shown.get("full")
        config = next((job.config for job in jobs if job.config), None)
        return {
            "base": ablation.base_digest(),
            "preset": self.preset,
            "steps": config and config.train.steps,
            "batch": config and config.train.global_batch,
            "queries per type of edit": self.queries,
            "settings": self.assignments,
            "machine": machine()["CPU"],
            "dtype": config and resolve_dtype(config.model.dtype, "cpu"),
            "seconds of training": _seconds(jobs),
            "rows": {name: _told(result, full) for name, result in shown.items()},
        }


def _changed(job: Job) -> list[str]:
    """What is not as it was when a job's folder was begun."""
    if job.config is None or not (job.folder / CONFIG).exists():
        return []
    there, now = read_config(job.folder), job.config
    before, after = there.train.steps, now.train.steps
    changed = differences(there, now, measured=True)
    return changed + ([f"train.steps: {before} there, {after} now"] if before != after else [])


def _seconds(jobs: Iterable[Job]) -> dict[str, float]:
    """Run -> what its steps took, of those that are finished."""
    done = [job for job in jobs if job.lora.exists() and (job.folder / METRICS).exists()]
    return {job.name: round(seconds_of(job.folder), 1) for job in done}


def _part(name: str) -> str:
    if name == "full":
        return "full"
    trained = name in ablation.ROWS and not ablation.ROWS[name].pairs
    return "ablation" if trained else "baseline"


def _told(result: ablation.Result, full: ablation.Result | None) -> dict:
    def numbers(summaries: dict) -> dict:
        return {
            name: {
                "mean": s.mean if s.n else None,
                "sem": s.sem if s.n > 1 else None,
                "seeds": s.n,
            }
            for name, s in summaries.items()
        }

    return {
        "title": result.title,
        "about": result.about,
        **numbers(result.all),
        "each seed": result.seeds,
        "less full": numbers(ablation.against(result, full)) if full else None,
        "kinds": {label: numbers(measures) for label, measures in result.kinds.items()},
    }


class Subprocesses:
    """Processes of this package, which are asked to save and stop when the command is stopped."""

    def __init__(self, threads: int) -> None:
        self.threads, self._running, self._stopped = threads, set(), False
        self._lock = threading.Lock()

    def run(self, arguments: list[str], log: Path) -> bool:
        """Run a module with its output in a log; whether it ended well."""
        log.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": path}
        with log.open("ab") as file:
            with self._lock:
                if self._stopped:
                    return False
                child = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C reaches it once, by `stop`
                )
                self._running.add(child)
            code = child.wait()
            with self._lock:
                self._running.discard(child)
        return code == 0

    def stop(self) -> None:
        """Ask all to stop, and wait until they have saved."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for child in running:
            child.terminate()  # not Ctrl-C's signal, which background jobs ignore
        for child in running:
            child.wait()
