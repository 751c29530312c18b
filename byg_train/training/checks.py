"""What is checked before a run loads its base: machine, output folder, disk, base, warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, TrainConfig
from ..family import is_embedded
from ..files import why_not_writable
from ..machine import resolve_dtype
from ..models.backbone import pixel_multiple, resolve_base
from ..models.lora_file import read_lora
from ..models.lora_tensors import ranks_of
from ..models.storage import require, require_storage
from ..models.streaming import require_fsdp
from .cost import trained_experts
from .disk import check_disk, disk_need
from .optimizer import require_optimizer
from .origin import unmoved, warmup_files
from .plan import all_items, shapes
from .processes import check_shares, launched
from .run_folder import check_output, holds_weights

if TYPE_CHECKING:
    from ..data.items import Dataset


def check_start(
    config: TrainConfig, data: Dataset, output: Path, device: str, *, resume: bool
) -> None:
    """Output folder, cache, disk, base, warm-up, in this order; ConfigError says what to change."""
    known = unmoved(output, config, data) if resume and holds_weights(output) else ()
    check_output(output, config, resume=resume, unmoved=known)
    _check_writable(config, output)
    here = config.with_dtype(resolve_dtype(config.model.dtype, device))
    multiple = pixel_multiple(config.model)
    check_disk(config, disk_need(here, shapes(config, multiple, data), all_items(data)), output)
    resolve_base(config.model)
    _check_warmup(config)


def _check_writable(config: TrainConfig, output: Path) -> None:
    """Where a run writes, tried before the base is loaded."""
    cache = config.data.cache or Path(config.data.path) / ".byg_cache"
    for folder, what, advice in (
        (output, "the output folder", "choose another"),
        (cache, "the cache of latents", "name another folder: data.cache=DIR"),
    ):
        if why := why_not_writable(folder):
            raise ConfigError(f"{what} {folder} cannot be written ({why}); {advice}")


def check_machine(config: TrainConfig) -> None:
    """Packages and networks that only some settings need, and how many processes there are."""
    if not trained_experts(config):
        from .assembly import one_network  # takes seconds

        raise ConfigError(one_network(config))
    require_storage(config.model.storage)
    require_optimizer(config)
    if config.train.wandb:
        require("wandb", "train.wandb=true")
    check_shares(config)
    require_fsdp(config.model.placement)
    if config.model.placement == "sharded" and launched()[1] == 1:
        raise ConfigError(
            "model.placement=sharded needs several processes, each with a GPU (torchrun "
            "--nproc-per-node N -m byg_train ...): set model.placement=streamed for one"
        )


def _check_warmup(config: TrainConfig) -> None:
    """Refuse a LoRA that the run cannot start from, as far as this shows without the base."""
    name = config.warmup.lora
    if name is None:
        return
    from ..editing.opening import wrong_width

    instead = (
        "train your own warm-up: warmup.lora=null and warmup.min_steps=300"
        if is_embedded(name)
        else "choose another, or set warmup.lora=null"
    )
    for path in warmup_files(config, trained_experts(config)).values():
        try:
            file = read_lora(path)
        except ValueError as error:
            raise ConfigError(f"warmup.lora {name!r}: {error}") from None
        why = wrong_width(file, config.model)
        if not why and (rank := ranks_of(file.tensors)[-1]) > config.lora.rank:
            why = f"its rank is {file.ranks}, lora.rank is {config.lora.rank}: set lora.rank={rank}"
        if why:
            raise ConfigError(f"warmup.lora {name!r} does not fit this run ({why}); {instead}")
