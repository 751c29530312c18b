"""The forward of a LoRA layer in fewer passes over memory than peft's, for which it stands in.

In general B's product is summed up where the base's is. A small network on a CPU multiplies with
W + s B A, made once per change of A or B, not in each forward: a step of Algorithm 1 asks the same
weights in up to a dozen forwards. To each, peft adds two thin products, a scaled sum and, under
autocast, casts; here a forward is one product, and the thin ones are left to the gradients of A and
B. The price is a copy of the adapted weights for each adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear

from .storage import is_packed, is_plain

# Adapted weights of all layers, in elements, up to which a copy of them is worth its memory.
SMALL = 1 << 26


def use_summed_products(layer: LoraLayer) -> None:
    """Let a layer add its LoRA in place, and A and B compute in the type of what they are given."""
    # peft would copy every input to float32, which autocast rounds back at once.
    layer.cast_input_dtype_enabled = False
    if not is_packed(layer.get_base_layer()):  # whose results may not be written to
        layer.forward = partial(_with_lora, layer)
    for thin in (*layer.lora_A.values(), *layer.lora_B.values()):
        thin.forward = _as_its_input(thin)


def _with_lora(layer: LoraLayer, x: Tensor) -> Tensor:
    """The forward of a layer in the active role: B's product is summed up where the base's is.

    peft scales the product and adds it in passes of their own over all outputs.
    """
    y = layer.base_layer(x)
    if layer._disable_adapters:
        return y
    (adapter,) = layer._active_adapter
    a, b = layer.lora_A[adapter], layer.lora_B[adapter].weight
    h = a(layer._cast_input_dtype(x, a.weight.dtype)).to(y.dtype)
    rows = y.view(-1, y.shape[-1])
    rows.addmm_(h.flatten(0, -2), b.to(y.dtype).T, alpha=layer.scaling[adapter])
    return y


def _as_its_input(thin: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A or B in the type of what it is given, which without autocast may be bfloat16."""
    return lambda x: linear(x, thin.weight.to(x.dtype))


def use_merged_weights(layers: Collection[LoraLayer]) -> None:
    """Let the layers of a small network multiply with merged weights, as long as it is on a CPU.

    Not those whose weights are stored in 8 or 4 bits: a sum would be rounded to that.
    """
    weights = [layer.get_base_layer().weight for layer in layers]
    if sum(w.numel() for w in weights) <= SMALL and all(map(is_plain, weights)):
        for layer in layers:
            layer.forward = _MergedForward(layer)


def without_merged_weights(network: nn.Module) -> None:
    """Let all layers of a network add their LoRA to each product: their weights come and go."""
    for module in network.modules():
        if isinstance(module.__dict__.get("forward"), _MergedForward):
            module.forward = module.forward.plain


class _MergedForward:
    """The forward of one peft layer, in whatever role is active."""

    def __init__(self, layer: LoraLayer) -> None:
        self.layer, self.plain = layer, layer.forward
        self.merged: dict[str, tuple[Any, Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        layer, base = self.layer, self.layer.get_base_layer()
        if base.weight.device.type != "cpu":
            return self.plain(x)
        if layer._disable_adapters:
            return base(x)
        (adapter,) = layer._active_adapter
        a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        weight = self._weight(adapter, a, b)
        x = x.to(weight.dtype)
        if not (torch.is_grad_enabled() and a.requires_grad):
            return linear(x, weight, base.bias)
        return _MergedLinear.apply(x, weight, base.bias, a, b, layer.scaling[adapter])

    @torch.no_grad()
    def _weight(self, adapter: str, a: Tensor, b: Tensor) -> Tensor:
        """W + s B A in the type of W; made again when A or B were written to."""
        made_of = (a._version, b._version)
        if adapter not in self.merged or self.merged[adapter][0] != made_of:
            base = self.layer.get_base_layer().weight
            with torch.autocast(a.device.type, enabled=False):
                whole = torch.addmm(base.to(a.dtype), b, a, alpha=self.layer.scaling[adapter])
            self.merged[adapter] = made_of, whole.to(base.dtype)
        return self.merged[adapter][1]


class _MergedLinear(torch.autograd.Function):
    """x (W + s B A)^T + bias, with gradients for x, A and B; W is frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        x, dy = x.flatten(0, -2), dy.flatten(0, -2)
        low = x.dtype
        # The scale on the thin side: r columns instead of `in` or `out`.
        d_b = dy.T @ ((x @ a.to(low).T) * ctx.scale)
        d_a = ((dy @ b.to(low)) * ctx.scale).T @ x
        return dx, None, None, d_a.to(a.dtype), d_b.to(b.dtype), None
