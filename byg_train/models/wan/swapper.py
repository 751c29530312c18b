"""One of several networks is on the device; the others wait on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..storage import is_packed


class _Parked(NamedTuple):
    """A network's frozen weights, as they were loaded."""

    plain: list[tuple[Tensor, Tensor]]  # a weight, and its values on the CPU
    packed: list[nn.Module]  # layers whose weights are more than a tensor, and move by `.to`

    @classmethod
    def of(cls, network: nn.Module) -> _Parked:
        packed = [module for module in network.modules() if is_packed(module)]
        apart = {id(weight) for module in packed for weight in module.parameters()}
        weights = [w for w in (*network.parameters(), *network.buffers()) if id(w) not in apart]
        return cls([(weight, weight.data) for weight in weights], packed)

    @property
    def weights(self) -> set[int]:
        """The ids of all its weights."""
        packed = {id(weight) for module in self.packed for weight in module.parameters()}
        return packed | {id(weight) for weight, _ in self.plain}


class ExpertSwapper:
    """Keeps one of several frozen networks on the device, and counts how often they change.

    What is added to a network later, its LoRA, is on the device always: it trains there, together
    with its optimiser, and is small.
    """

    def __init__(self, networks: nn.ModuleDict, device: torch.device) -> None:
        """Move nothing yet; `networks` are as they were loaded, on the CPU."""
        self.networks, self.device = networks, device
        self.on_device: str | None = None
        self.swaps, self.moves = 0, True
        self._parked = {name: _Parked.of(network) for name, network in networks.items()}

    def take(self, name: str) -> nn.Module:
        """The network of this name, on the device; the one before has made room for it."""
        if not self.moves:
            return self.networks[name]
        if self.on_device is None:
            self._place_additions()
        elif self.on_device != name:
            self.swaps += 1
            self._put_away(self._parked[self.on_device])
        if self.on_device != name:
            for weight, _ in self._parked[name].plain:
                weight.data = weight.data.to(self.device)
            for module in self._parked[name].packed:
                module.to(self.device)
            self.on_device = name
        return self.networks[name]

    def _put_away(self, parked: _Parked) -> None:
        """Frozen weights never change, so the way back to the CPU is a change of pointers."""
        for weight, home in parked.plain:
            if weight.device != home.device:
                weight.data = home
        for module in parked.packed:
            module.to("cpu")

    def _place_additions(self) -> None:
        frozen = set().union(*(parked.weights for parked in self._parked.values()))
        for weight in self.networks.parameters():
            if id(weight) not in frozen:
                weight.data = weight.data.to(self.device)
