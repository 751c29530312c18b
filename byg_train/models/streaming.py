"""Bases that are too large for a GPU: FSDP2 fetches each block as it is needed (`model.placement`).

Streamed, all weights stay in main memory and a block's come to the device for its forward, its
recomputation and its backward. Sharded, every process keeps a part of each on its device. Networks
are wrapped in place: their blocks stay the same objects. LoRAs are left alone: plain, whole, on the
device, and summed as those of any other run.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ..config import ConfigError
from .checkpointing import blocks_of
from .lora_forward import without_merged_weights

if TYPE_CHECKING:
    from .backbone import Backbone
    from .lora import LoraBank


def place(backbone: Backbone, bank: LoraBank, placement: str, device: torch.device) -> None:
    """Put a base with its LoRA where `model.placement` says; afterwards nothing moves it."""
    if placement == "whole":
        return
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

    require_fsdp(placement)
    without_merged_weights(backbone.experts)
    lora = set(bank.all_parameters())
    for weight in lora:
        weight.data = weight.data.to(device)
    streams = placement == "streamed"
    offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if streams else OffloadPolicy()
    mesh = _mesh(device, alone=streams)
    # A block of FLUX gives views of its result. Nobody writes to them.
    warnings.filterwarnings("ignore", ".*returned a view tensor.*")
    for network in backbone.experts.values():
        for part in (*blocks_of(network), network):
            fully_shard(
                part,
                mesh=mesh,
                reshard_after_forward=True,
                offload_policy=offload,
                ignored_params=lora,
            )
    backbone.stay()


def require_fsdp(placement: str) -> None:
    """ConfigError where this PyTorch cannot leave a LoRA out of what it shards."""
    if placement == "whole":
        return
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        fully_shard = place  # has no such parameter either
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise ConfigError(
            f"model.placement={placement} needs PyTorch 2.7 or later, and this is "
            f"{torch.__version__}: pip install -U torch, or set model.placement=whole"
        )


def _mesh(device: torch.device, *, alone: bool) -> DeviceMesh:
    """The device mesh of all processes, or of this one alone."""
    if not dist.is_initialized():
        backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    world = dist.get_world_size()
    if not alone:
        return init_device_mesh(device.type, (world,))
    names = ("copies", "own")
    return init_device_mesh(device.type, (world, 1), mesh_dim_names=names)["own"]
