"""LoraBank: the edit, EMA and base roles of one set of frozen weights (peft)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..config import ConfigError, LoraSettings, nearest
from ..core.roles import Roles, Text, Velocity
from ..family import registry
from .lora_forward import use_merged_weights, use_summed_products

Role = Literal["edit", "ema", "base", "aux", "teacher"]
# Roles that train; of the others, those that are adapters are copies.
TRAINED = ("edit", "aux")
# In `lora.targets`: what is meant where nothing is said, to add to.
USUAL = "usual"


class LoraBank:
    """One LoRA per expert, in several roles.

    `edit` trains; `ema` is its slow copy, or `edit` itself without a decay; `base` is the network
    without a LoRA. Some objectives have an `aux` that trains beside it, or a frozen `teacher`. LoRA
    weights are float32 (float64 over a float64 network), whatever the base is.
    """

    def __init__(
        self,
        experts: nn.ModuleDict,
        settings: LoraSettings,
        ema_decay: float | None,
        seed: int,
        more: tuple[str, ...] = (),
    ) -> None:
        """Freeze the experts and put the LoRA in, of `more` roles too: A by `seed`, B zero."""
        self.decay, self.updates = ema_decay, dict.fromkeys(experts, 0)
        alpha = settings.rank if settings.alpha is None else settings.alpha
        self.scale = alpha / settings.rank
        self.adapters = ("edit", *(() if ema_decay is None else ("ema",)), *more)
        self._role: Role = "edit"
        generator = torch.Generator().manual_seed(seed)
        self._layers: dict[str, dict[str, LoraLayer]] = {}
        for name, expert in experts.items():
            targets = target_names(expert, settings.targets)
            expert.requires_grad_(False)
            for adapter in self.adapters:
                _inject(expert, adapter, settings.rank, alpha, targets)
            modules = dict(expert.named_modules())
            self._layers[name] = {target: modules[target] for target in targets}
            for layer in self._layers[name].values():
                _initialise(layer, self.adapters, settings.rank, generator)
        if not any(module._compiled_call_impl for module in experts.modules()):
            use_merged_weights([layer for own in self._layers.values() for layer in own.values()])
        self._activate("edit")

    # ------------------------------------------------------------ roles

    @contextmanager
    def using(self, role: Role) -> Iterator[None]:
        """Run as `role` inside, and as before afterwards, whatever happens; outside it is `edit`.

        Gradient checkpointing runs forwards again during backward, with whatever is active then:
        so what trains must be active around its backward pass too.
        """
        before = self._role
        self._activate(role)
        try:
            yield
        finally:
            self._activate(before)

    def _activate(self, role: Role) -> None:
        adapter, self._role = role if role in self.adapters else "edit", role
        for layers in self._layers.values():
            for layer in layers.values():
                # Not peft's set_adapter and enable_adapters: they change requires_grad as well.
                layer._active_adapter = [adapter]
                layer._disable_adapters = role == "base"

    def roles(self, edit: Velocity, base: Velocity, teacher: Velocity | None = None) -> Roles:
        """The networks of an objective from velocities over the same weights."""

        def as_role(role: Role, velocity: Velocity) -> Velocity:
            gradients = nullcontext if role in TRAINED else torch.no_grad

            def answer(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
                with gradients(), self.using(role):
                    return velocity(x_t, t, text, source)

            return answer

        helped = "aux" in self.adapters
        return Roles(
            as_role("edit", edit) if helped else edit,
            as_role("ema", edit),
            as_role("base", base),
            as_role("aux", edit) if helped else None,
            as_role("teacher", teacher or edit) if "teacher" in self.adapters else None,
        )

    # ------------------------------------------------------------ weights

    @property
    def experts(self) -> list[str]:
        """The networks that have a LoRA."""
        return list(self._layers)

    def named_parameters(self, role: Role = "edit") -> dict[str, nn.Parameter]:
        """What trains: "<expert>.<module>.lora_A.weight" (r, in) and ".lora_B.weight" (out, r)."""
        return {
            f"{expert}.{name}": weight
            for expert in self._layers
            for name, weight in self._expert_weights(expert, role).items()
        }

    def parameters(self, expert: str, role: Role = "edit") -> list[nn.Parameter]:
        """What trains of one expert, in an order that is the same in every process."""
        return list(self._expert_weights(expert, role).values())

    def all_parameters(self) -> list[nn.Parameter]:
        """Return the weights of all adapters, the slow copy's too."""
        return list(self._adapted().values())

    def _adapted(self) -> dict[str, nn.Parameter]:
        adapters = {adapter: self.named_parameters(adapter) for adapter in self.adapters}
        return {
            f"{a}.{name}": weight for a, own in adapters.items() for name, weight in own.items()
        }

    def _expert_weights(self, expert: str, adapter: str) -> dict[str, nn.Parameter]:
        weights = {}
        for name, layer in self._layers[expert].items():
            weights[f"{name}.lora_A.weight"] = layer.lora_A[adapter].weight
            weights[f"{name}.lora_B.weight"] = layer.lora_B[adapter].weight
        return weights

    @torch.no_grad()
    def update_ema(self, experts: Iterable[str]) -> None:
        """ema <- d ema + (1 - d) edit of the experts that took a step.

        d = min(decay, (1 + k) / (10 + k)) with k that expert's updates so far.
        """
        if self.decay is None:
            return
        for expert in experts:
            k = self.updates[expert]
            decay = min(self.decay, (1 + k) / (10 + k))
            ema, edit = self.parameters(expert, "ema"), self.parameters(expert, "edit")
            torch._foreach_lerp_(ema, edit, 1 - decay)
            self.updates[expert] += 1

    @torch.no_grad()
    def copy_to_ema(self) -> None:
        """ema <- edit, exactly; the ramp of the decay starts again."""
        self.updates = dict.fromkeys(self.updates, 0)
        if self.decay is not None:
            self.copy_to("ema")

    def copy_to(self, role: Role) -> None:
        """Give another adapter the weights that `edit` has."""
        _copy(self.named_parameters("edit"), self.named_parameters(role))

    # ------------------------------------------------------------ in and out

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything for an exact resume: tensors, and counts that JSON can hold."""
        tensors = {name: weight.detach() for name, weight in self._adapted().items()}
        return tensors, {"updates": dict(self.updates)}

    def load_state_dict(self, tensors: dict[str, Tensor], counts: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        _copy(tensors, self._adapted())
        self.updates = dict(counts["updates"])

    def tensors(self, expert: str, weights: Literal["edit", "ema"]) -> dict[str, Tensor]:
        """Return one expert's LoRA without its scale, for `lora_file.write_lora`."""
        adapter = "edit" if self.decay is None else weights
        return {k: w.detach() for k, w in self._expert_weights(expert, adapter).items()}

    def load_tensors(self, expert: str, tensors: dict[str, Tensor]) -> None:
        """Start from a LoRA file's tensors (`read_lora`: the scale is baked into B), ema too.

        A module of a lower rank gets rows of A as they were drawn, and zeros in B: the same update.
        """
        plain = {k: v.float() / (self.scale if "lora_B" in k else 1) for k, v in tensors.items()}
        weights = self._expert_weights(expert, "edit")
        _copy({k: _grown(k, v, weights.get(k)) for k, v in plain.items()}, weights)
        self.copy_to_ema()


def _grown(name: str, tensor: Tensor, own: nn.Parameter | None) -> Tensor:
    """A tensor of a lower rank brought to that of the bank: A with its own rows, B with zeros."""
    axis = 1 if "lora_B" in name else 0
    if own is None or tensor.shape[axis] >= own.shape[axis]:
        return tensor
    grown = torch.zeros_like(own) if axis else own.detach().clone()
    part = grown.narrow(axis, 0, tensor.shape[axis])
    if part.shape != tensor.shape:
        return tensor  # of another width: told where it is copied
    part.copy_(tensor)
    return grown


def target_names(expert: nn.Module, targets: list[str] | None) -> list[str]:
    """Full names of the linear modules to adapt."""
    formats = {family.lora.transformer: family.lora for family in registry().values()}
    form = formats.get(type(expert).__name__)
    words = {**form.more_targets, USUAL: form.targets} if form else {}
    linear = [name for name, module in expert.named_modules() if isinstance(module, nn.Linear)]

    def is_meant(name: str, target: str) -> bool:
        if target in words:
            return words[target].fullmatch(name) is not None
        return f".{name}".endswith(f".{target}")

    targets = [USUAL] if targets is None else targets
    for target in targets:
        if not any(is_meant(name, target) for name in linear):
            endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ConfigError(
                f"lora.targets: no linear module is named {target!r} or ends so"
                f"{nearest(target, [*words, *endings, *linear])} (endings: {', '.join(endings)}; "
                f"several at once: {', '.join(words)})"
            )
    return [name for name in linear if any(is_meant(name, t) for t in targets)]


def _inject(expert: nn.Module, adapter: str, rank: int, alpha: float, targets: list[str]) -> None:
    """Wrap the target modules; leaves the expert's mode as it was."""
    peft = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # the second adapter
        warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated")  # cannot be merged
        # On the meta device: the values are ours, and no global generator is drawn from.
        inject_adapter_in_model(peft, expert, adapter, low_cpu_mem_usage=True)
    expert.train(expert.training)


def _initialise(
    layer: LoraLayer, adapters: tuple[str, ...], rank: int, generator: torch.Generator
) -> None:
    """Give every adapter the same start, drawn on the CPU: independent of the device."""
    base = layer.get_base_layer().weight
    # What stores a base in 8 or 4 bits has types that say nothing of what it computes in.
    dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
    kind = {"device": base.device, "dtype": dtype}
    a = torch.empty(rank, layer.in_features)
    nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
    b = torch.zeros(layer.out_features, rank)
    for adapter in adapters:
        for module, value in ((layer.lora_A, a), (layer.lora_B, b)):
            weight = value.to(**kind, copy=True)
            module[adapter].weight = nn.Parameter(weight, requires_grad=adapter in TRAINED)
    use_summed_products(layer)


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, nn.Parameter]) -> None:
    """Copy by name; anything that does not fit raises before a single weight changes."""
    wrong = {
        "missing": [k for k in target if k not in source],
        "unexpected": [k for k in source if k not in target],
        "of another shape": [
            f"{k} {tuple(source[k].shape)}, wanted {tuple(target[k].shape)}"
            for k in target
            if k in source and source[k].shape != target[k].shape
        ],
    }
    found = [f"{len(v)} {k} (first: {', '.join(v[:2])})" for k, v in wrong.items() if v]
    if found:
        raise ConfigError(
            f"these LoRA weights do not fit this model, rank and lora.targets: {'; '.join(found)}"
        )
    for name, weight in target.items():
        weight.copy_(source[name])
