"""The plan of a run: items, tokens, cost, memory, time and disk. Estimates; nothing is loaded."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from ..config import ConfigError, ModelConfig, TrainConfig
from ..family import family_of, is_embedded
from ..media.fit import Size, buckets, nearest_bucket
from ..models.backbone import token_counts
from ..models.locate import local_folder
from ..models.networks import Network, download_size, network
from ..objectives import objective_of
from .cost import (
    CPU_TFLOPS,
    GPUS,
    SUSTAINED,
    Compute,
    Disk,
    Memory,
    compute,
    disk,
    memory,
    validation_cost,
)

if TYPE_CHECKING:
    from ..data.items import Dataset, Item

GB = 1e9
# GPUs of the paper's runs (B.1, B.2).
EIGHT = 8


class Shapes(NamedTuple):
    """What the cost of a run depends on: how many items of which size."""

    sizes: Counter[Size]  # training items per bucket
    text: int  # tokens
    image: dict[Size, int]  # tokens of one picture or clip

    @property
    def mean_image(self) -> float:
        """Tokens of an average picture or clip."""
        return sum(self.image[size] * n for size, n in self.sizes.items()) / self.sizes.total()


def shapes(config: TrainConfig, multiple: int, data: Dataset | None) -> Shapes:
    """Token counts of the data; without data, of one square picture or one 16:9 clip."""
    choice = buckets(
        config.data.resolution, multiple, config.data.max_aspect if config.data.buckets else 1.0
    )
    items = data.train if data else []
    sizes = Counter(nearest_bucket(item.width, item.height, choice) for item in items)
    if not sizes:
        sizes[nearest_bucket(*((16, 9) if config.data.frames > 1 else (1, 1)), choice)] = 1
    counts = {size: token_counts(config.model, *size, config.data.frames) for size in sizes}
    text = next(iter(counts.values()))[0]
    return Shapes(sizes, text, {size: image for size, (_, image) in counts.items()})


def run_cost(config: TrainConfig, multiple: int, data: Dataset | None) -> Compute:
    """What the run's steps cost, at its data's mean token count."""
    s = shapes(config, multiple, data)
    return compute(config, network(config.model), s.text, s.mean_image)


def need(config: TrainConfig, s: Shapes) -> Memory:
    """Bytes on the device for the largest item."""
    pixels = max(width * height for width, height in s.sizes)
    return memory(config, network(config.model), s.text, max(s.image.values()), pixels)


def plan(config: TrainConfig, multiple: int, data: Dataset | None) -> Table:
    """The plan as a table of two columns."""
    table = Table(title=f"Plan of preset {config.preset}", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _rows(config, shapes(config, multiple, data), data):
        table.add_row(name, text)
    table.caption = "Cost, memory, time and disk are estimates from token counts, not measurements."
    return table


def _rows(config: TrainConfig, s: Shapes, data: Dataset | None) -> list[tuple[str, str]]:
    net = network(config.model)
    cost = compute(config, net, s.text, s.mean_image)
    room = need(config, s)
    disk_words = _disk_words(disk_need(config, s, all_items(data)))
    return [
        ("base", config.model.path),
        ("items", _items(data)),
        ("buckets", _buckets(config, s, data)),
        ("tokens", _tokens(s, net)),
        ("steps", _steps(config)),
        ("losses", _losses(config)),
        *_step_rows(config, cost),
        ("memory" if config.model.is_embedded else "memory per GPU", _memory_words(config, room)),
        *_times(config, cost, room.total),
        ("disk", disk_words if data else f"{disk_words} (without your data)"),
    ]  # fmt: skip


def _buckets(config: TrainConfig, s: Shapes, data: Dataset | None) -> str:
    d = config.data
    sizes = ", ".join(f"{width}x{height}: {n}" for (width, height), n in sorted(s.sizes.items()))
    words = sizes if data else f"about {d.resolution} px squared"
    if not family_of(config.model.family).is_video:
        return words
    (width, height), _ = s.sizes.most_common(1)[0]
    words += "" if data else f", such as {width}x{height}"
    return f"{words}; {d.frames} frames at {d.fps:g} fps ({d.frames / d.fps:.1f} s)"


def _tokens(s: Shapes, net: Network) -> str:
    if net.text_attends:
        return f"{s.text} text + 2 x {s.mean_image:.0f} image (target and source)"
    sequence = net.sequence(s.text, s.mean_image, source=True)
    return (
        f"{sequence:,.0f} attend to each other: 2 x {s.mean_image:,.0f} of the clip (target and "
        f"source); beside them {s.text} of text"
    )


def _step_rows(config: TrainConfig, cost: Compute) -> list[tuple[str, str]]:
    step = cost.step
    checkpointing = "with" if config.model.gradient_checkpointing else "without"
    return [
        ("one step", f"{step.full:.1f} F in full, {step.identity:.0f} F identity-only, "
         f"{step.mean:.1f} F on average ({checkpointing} checkpointing)"),
        ("", f"F, one forward of the editor, is {_teraflop(cost.forward)}; one of the base is "
         f"{cost.r:.2f} F"),
        ("supervised", f"a step on true pairs would take {step.supervised:.0f} F; this method "
         f"takes {step.mean / step.supervised:.1f} times as long per step"),
        ("samples", _validations(config, step.mean)),
    ]  # fmt: skip


def _teraflop(flops: float) -> str:
    count = flops / 1e12
    return f"{count:,.0f} TFLOP" if count > 10 else f"{count:.2g} TFLOP"


def _validations(config: TrainConfig, step: float) -> str:
    """What validation on held-out items takes; `step`: F of one item's average step."""
    t, count = config.train, config.sample.count
    cost = count * validation_cost(config)
    number = 2 + (t.steps - 1) // t.sample_every if t.sample_every else 2
    return (
        f"{number} validations on {count} held-out items, {cost:.0f} F each (as long as "
        f"{cost / (step * t.global_batch):.1f} steps)"
    )


def _steps(config: TrainConfig) -> str:
    t, w = config.train, config.warmup
    warmup = f"{w.min_steps}" if w.min_steps == w.max_steps else f"{w.min_steps} to {w.max_steps}"
    return (
        f"{t.steps} of {t.global_batch} items ({t.accumulation} x {t.batch_size}), "
        f"after {warmup} of identity"
    )


def _losses(config: TrainConfig) -> str:
    """A line for each term that counts: its weight, its name in the logs, and what it wants."""
    weights = [
        (1.0 if term.weight is None else getattr(config.method, term.weight), term)
        for term in objective_of(config).terms
    ]
    return "\n".join(f"{w:g} x {term.name}: {term.about}" for w, term in weights if w)


def _memory_words(config: TrainConfig, need: Memory) -> str:
    encoder = family_of(config.model.family).text_encoder
    return (
        f"{_size(need.total)}: weights {_size(need.weights)}, LoRA with optimiser "
        f"{_size(need.adapter)}, EMA {_size(need.ema)}, and activations of a step "
        f"{_size(need.activations + need.working)} or decoding of samples {_size(need.decoding)}; "
        f"before that {encoder} alone {_size(need.encoding)}"
    ) + (f"; {_size(need.host)} of main memory for both experts" if need.host else "")


def _times(config: TrainConfig, cost: Compute, memory_need: float) -> list[tuple[str, str]]:
    """Rows: on one device, and on several that share the items of a step."""
    if config.model.is_embedded:
        speed = f"assumed {CPU_TFLOPS:g} TFLOP/s"
        time = duration(cost.seconds(CPU_TFLOPS))
        return [("time", f"2 CPU cores {time} (at an {speed})")]
    fits = {name: gpu for name, gpu in GPUS.items() if gpu.memory > memory_need}
    small = [name for name in GPUS if name not in fits]
    if not fits:
        return [("time", f"fits none of the known GPUs ({', '.join(small)})")]

    def on(number: int) -> str:
        seconds = {n: cost.seconds(number * SUSTAINED * g.tflops) for n, g in fits.items()}
        return ", ".join(f"{name} {duration(s)}" for name, s in seconds.items())

    too_small = f"; too little memory: {', '.join(small)}" if small else ""
    speed = f"at an assumed {SUSTAINED:.0%} of the peak bf16 speed, samples not counted"
    return [
        ("time, 1 GPU", f"{on(1)} ({speed}){too_small}"),
        ("time, 8 GPUs", f"{on(EIGHT)}: the paper's machine; byg_train itself trains on one"),
    ]


def all_items(data: Dataset | None) -> list[Item]:
    """Return all items of a data set, training and test."""
    return [*data.train, *data.test] if data else []


def _items(data: Dataset | None) -> str:
    if data is None:
        return "none yet"
    dropped = f", {len(data.problems)} dropped" if data.problems else ""
    excluded = f", {data.excluded} excluded" if data.excluded else ""
    return f"{len(data.train)} for training, {len(data.test)} held out{dropped}{excluded}"


def _size(count: float) -> str:
    return f"{count / GB:.1f} GB" if count > 0.1 * GB else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """`5 min`, `7 h` or `3.0 days`."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"


# ---------------------------------------------------------------- disk


def disk_need(config: TrainConfig, s: Shapes, items: list[Item]) -> Disk:
    """What the run will bring: cache, run folder, and the base if it is not here yet."""
    seen = {(item.digest, item.segment) for item in items}
    texts = {text for item in items for text in item.texts} | {""}
    mean = [s.mean_image] * len(seen)
    need = disk(config, network(config.model), s.text, mean, len(texts))
    return need._replace(download=_download(config.model))


def _download(model: ModelConfig) -> float | None:
    """Bytes that the hub will send: 0 for a local base, None for an unknown one."""
    single = Path(model.path).expanduser().is_file()
    name = model.components if single else model.path
    if name is None or is_embedded(name) or Path(name).expanduser().exists():
        return 0
    if local_folder(model, name):
        return 0
    return download_size(model, name, transformer=not single)


def _disk_words(need: Disk) -> str:
    known = need.download or 0
    download = f", download of the base {_size(known)}" if known else ""
    return (
        f"{_size(need.cache + need.checkpoints + need.lora_files + known)}: cache "
        f"{_size(need.cache)}, checkpoints {_size(need.checkpoints)}, LoRA files "
        f"{_size(need.lora_files)}{download}"
        + (" (and the download of the base, of unknown size)" if need.download is None else "")
    )


def check_disk(config: TrainConfig, need: Disk, output: Path) -> None:
    """Refuse before anything is loaded when a disk cannot hold what the run will write to it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = config.data.cache or Path(config.data.path) / ".byg_cache"
    # What an earlier run has written need not be written again.
    parts = [
        (cache, need.cache - _written(cache)),
        (output, need.checkpoints + need.lora_files - _written(output)),
        (Path(HF_HUB_CACHE), need.download or 0),
    ]
    wanted: Counter[int] = Counter()
    places: dict[int, Path] = {}
    for folder, count in parts:
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        device = place.stat().st_dev
        places.setdefault(device, place)
        wanted[device] += round(max(0.0, count))
    for device, place in places.items():
        free = shutil.disk_usage(place).free
        if wanted[device] > free:
            raise ConfigError(
                f"too little disk space at {place}: needed about {_size(wanted[device])} "
                f"({_disk_words(need)}), free {_size(free)}; make room, choose another output "
                "folder or data.cache, or write less with a larger train.checkpoint_every"
            )


def _written(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
