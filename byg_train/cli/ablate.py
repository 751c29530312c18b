"""`ablate`: all runs of the ablation study and their scores, several at once; a table, a plot."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import typer

from ..config import ConfigError, TrainConfig, nearest
from ..family import family_of
from ..files import atomic
from ..machine import usable_cpus
from ..progress import CONSOLE
from ..training.run_folder import CONFIG, differences, read_config
from ..training.stopping import stops_at_once
from ..world import ablation
from ..world.demo import DEMOS
from .errors import interruption_explained
from .settings import Flags, resolve_device, settings
from .subprocesses import Children

ABOUT, TABLE, PLOT = "ablation.json", "ablation.md", "ablation.png"
SCORES, LOGS = "scores.json", "logs"


@dataclass(frozen=True)
class AblateFlags:
    """The options of `ablate`."""

    preset: str
    output: Path
    seeds: int
    steps: int | None
    only: list[str]
    jobs: int
    queries: int
    device: str
    assignments: list[str] = field(default_factory=list)


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
        """Of its folder and its log."""
        return f"{self.row}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The run."""
        return self.output / self.name

    @property
    def lora(self) -> Path:
        """What training ends with."""
        return self.folder / f"{self.name}.safetensors"


def run_ablation(flags: AblateFlags) -> None:
    """Do what is not done yet, and write the table again after every job."""
    jobs = _jobs(flags)
    device = resolve_device(flags.device)
    _expect_same_study(flags, jobs)
    _expect_plots()
    CONSOLE.print("Drawing the tiny world's training pictures, and their true edits ...")
    DEMOS["demo"].prepare(flags.output / "data")
    DEMOS["demo"].prepare(flags.output / "pairs", pairs=True)
    left = [job for job in jobs if not _scored(job, flags)]
    CONSOLE.print(f"{len(jobs) - len(left)} of {len(jobs)} runs are there already")
    failed = []
    if left:
        said = "stopped; every run goes on where it was with the same command"
        with interruption_explained(), stops_at_once(said):
            failed = _all(left, flags, device, jobs)
    _write(flags, jobs)
    if (flags.output / TABLE).exists():
        typer.echo((flags.output / TABLE).read_text(encoding="utf-8"))
    if failed:
        logs = ", ".join(str(flags.output / LOGS / f"{name}.log") for name in failed)
        typer.echo(f"error: {len(failed)} runs failed; see {logs}", err=True)
        raise typer.Exit(1)


# ---------------------------------------------------------------- what is to be done


def _jobs(flags: AblateFlags) -> list[Job]:
    """All seeds of one row after the other would show a table late: seed by seed."""
    if flags.seeds < 1 or flags.jobs < 1 or flags.queries < 1:
        raise ConfigError("--seeds, --jobs and --queries: wanted 1 or more")
    model = settings(Flags(flags.preset)).model
    if not model.is_embedded or family_of(model.family).is_video:
        raise ConfigError(
            f"--preset {flags.preset}: the study needs the true edit of every picture, which the "
            "embedded world alone can draw; take --preset demo"
        )
    known = [*ablation.ROWS, "baselines"]
    for name in flags.only:
        if name not in known:
            raise ConfigError(f"--only {name}{nearest(name, known)} (known: {', '.join(known)})")
    rows = [name for name in known if not flags.only or name in flags.only]
    return [_job(row, seed, flags) for seed in range(flags.seeds) for row in rows]


def _job(name: str, seed: int, flags: AblateFlags) -> Job:
    if name == "baselines":
        return Job(name, seed, flags.output, [], None)
    row, output = ablation.ROWS[name], flags.output.resolve()
    data = output / ("pairs" if row.pairs else "data")
    # Looks and checks cost time and change nothing; one cache serves all.
    usual = ("train.sample_every=0", "train.check_gradients_every=1000000")
    assignments = [*usual, f"data.cache={output / 'cache'}", *flags.assignments, *row.settings]
    config = settings(Flags(flags.preset, None, data, None, flags.steps, seed, assignments))
    training = ["--preset", flags.preset, "--data", str(data), "--seed", str(seed)]
    training += ["--steps", str(config.train.steps)]
    training += [part for each in assignments for part in ("--set", each)]
    return Job(name, seed, flags.output, training, config)


def _expect_same_study(flags: AblateFlags, jobs: list[Job]) -> None:
    """Refuse to mix runs of other settings, or on another base, into one table."""
    about, base = flags.output / ABOUT, ablation.base_digest()
    if about.exists():
        told = json.loads(about.read_text(encoding="utf-8"))
        if told["base"] != base:
            raise ConfigError(
                f"{flags.output} holds runs on another base or warm-up than the shipped one; "
                "choose another --output"
            )
    for job in jobs:
        if not (job.folder / CONFIG).exists():
            continue
        there = read_config(job.folder)
        changed = differences(there, job.config)
        if there.train.steps != job.config.train.steps:
            changed.append(f"train.steps: {there.train.steps} there, {job.config.train.steps} now")
        if changed:
            raise ConfigError(
                f"{job.folder} was trained with other settings: {'; '.join(changed)}. "
                "Choose another --output"
            )
    if not about.exists():
        with atomic(about) as temporary:
            temporary.write_text(json.dumps({"base": base}), encoding="utf-8")


def _expect_plots() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('ablate draws a plot with matplotlib: pip install -e ".[eval]"')


def _scored(job: Job, flags: AblateFlags) -> dict | None:
    lora = job.lora if job.training else None
    return ablation.read_scores(job.folder / SCORES, lora, flags.queries)


# ---------------------------------------------------------------- doing it


def _all(left: list[Job], flags: AblateFlags, device: str, jobs: list[Job]) -> list[str]:
    """Run jobs, `flags.jobs` at once; returns the names of those that failed."""
    children = Children(max(1, usable_cpus() // flags.jobs))
    failed, pool = [], ThreadPoolExecutor(flags.jobs)
    try:
        running = {pool.submit(_one, job, flags, device, children): job for job in left}
        for number, future in enumerate(as_completed(running), 1):
            job = running[future]
            if not future.result():
                failed.append(job.name)
            said = "failed" if job.name in failed else "done"
            CONSOLE.print(f"{number}/{len(left)} {job.name}: {said}")
            _write(flags, jobs)
    except BaseException:
        children.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def _one(job: Job, flags: AblateFlags, device: str, children: Children) -> bool:
    """Train, if that is left, and score; whether both went well."""
    log = flags.output / LOGS / f"{job.name}.log"
    scoring = [
        "byg_train.world.ablation", str(job.folder / SCORES), "--queries", str(flags.queries),
        "--seed", str(job.seed), "--device", device,
    ]  # fmt: skip
    if job.training and not job.lora.exists():
        resume = ["--resume"] if (job.folder / CONFIG).exists() else []
        training = ["byg_train", *job.training, "--output", str(job.folder), "--device", device]
        if not children.run([*training, *resume], log):
            return False
    return children.run([*scoring, *(["--lora", str(job.lora)] if job.training else [])], log)


# ---------------------------------------------------------------- the table


def _write(flags: AblateFlags, jobs: list[Job]) -> None:
    """Table and plot of all that is scored."""
    from ..world.ablation_plot import plot

    runs: dict[str, dict[int, dict]] = {}
    for job in jobs:
        for method, scores in (_scored(job, flags) or {}).items():
            row = job.row if method == ablation.TRAINED else method
            runs.setdefault(row, {})[job.seed] = scores
    rows = {**ablation.ROWS, **ablation.BASELINES}
    shown = {name: ablation.result(rows[name], runs[name]) for name in rows if name in runs}
    if not shown:
        return
    full = shown.get("full")
    config = next((job.config for job in jobs if job.config), None)
    told = {
        "base": ablation.base_digest(),
        "preset": flags.preset,
        "steps": config and config.train.steps,
        "batch": config and config.train.global_batch,
        "queries per type of edit": flags.queries,
        "rows": {name: _told(result, full) for name, result in shown.items()},
    }
    with atomic(flags.output / ABOUT) as temporary:
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    with atomic(flags.output / TABLE) as temporary:
        temporary.write_text(ablation.markdown(shown), encoding="utf-8")
    plot([(result, _part(name)) for name, result in shown.items()], flags.output / PLOT)


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
