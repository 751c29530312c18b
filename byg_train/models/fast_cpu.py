"""FLUX's attention and the tanh form of GELU on a CPU: diffusers' functions in less time.

What costs in attention is memory that is touched. Diffusers norms, casts, negates, stacks and
rotates in a dozen passes; here pairs of values turn as complex numbers, and the norm divides last.
In bfloat16 few tokens attend by plain products: the backward of PyTorch's kernel takes several
times as long.

PyTorch's own GELU takes a seventh of a tiny world's forward in float32. x (1 + tanh u) / 2 with
u = sqrt(2 / pi) (x + 0.044715 x^3) is x sigmoid(2 u): the same function, by an exponential, which
ATen computes several times faster than a hyperbolic tangent.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

# Tokens up to which bfloat16 attends by plain products: 0.6 of the time; at 1,024 no gain is left.
FEW = 256
# Of 2 u, by powers of x.
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR


def use_fast_attention(network: nn.Module) -> None:
    """Let the attention of a frozen FLUX transformer compute itself so, as long as it is on a CPU.

    Norms get no gradients.
    """
    from diffusers.models.transformers.transformer_flux import FluxAttention

    for module in network.modules():
        if isinstance(module, FluxAttention):
            module.set_processor(_CpuProcessor(module.processor))


class _CpuProcessor:
    """An attention processor of diffusers; the `plain` one computes whatever this one does not."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(B, N, width) -> the same; beside text (B, L, width) a pair, the text's last."""
        image, text = hidden_states, encoder_hidden_states
        if image.device.type != "cpu" or attention_mask is not None or image_rotary_emb is None:
            return self.plain(attn, image, text, attention_mask, image_rotary_emb)
        own = [attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k]
        if text is None:
            return _attend(attn, [(image, own)], image_rotary_emb)
        added = [attn.add_q_proj, attn.add_k_proj, attn.add_v_proj]
        added += [attn.norm_added_q, attn.norm_added_k]
        out = _attend(attn, [(text, added), (image, own)], image_rotary_emb)
        text, image = out.tensor_split((text.shape[1],), dim=1)
        image = attn.to_out[1](attn.to_out[0](image.contiguous()))
        return image, attn.to_add_out(text.contiguous())


def _attend(
    attn: Any, parts: list[tuple[Tensor, list[nn.Module]]], rotary: tuple[Tensor, Tensor]
) -> Tensor:
    """Parts of a sequence, each with its projections and norms, -> (B, S, width) of all."""
    heads = [
        _joined([layers[i](x) for x, layers in parts]).unflatten(-1, (-1, attn.head_dim))
        for i in range(3)
    ]
    wide = torch.promote_types(heads[0].dtype, torch.float32)
    cos, sin = (table[:, None, ::2].to(wide) for table in rotary)  # each angle stands there twice
    turn = torch.complex(cos, sin)
    for i in range(2):
        scales = [layers[3 + i].weight.expand(x.shape[1], -1) for x, layers in parts]
        weight = _joined(scales, dim=0)[:, None].to(wide)
        heads[i] = _NormAndTurn.apply(heads[i], weight, turn, attn.norm_q.eps)
    q, k, v = (x.transpose(1, 2) for x in heads)
    if q.dtype == torch.bfloat16 and q.shape[2] <= FEW:
        out = (q @ k.mT * attn.head_dim**-0.5).softmax(-1).to(v.dtype) @ v
    else:
        out = scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


def _joined(parts: list[Tensor], dim: int = 1) -> Tensor:
    return torch.cat(parts, dim) if len(parts) > 1 else parts[0]


class _NormAndTurn(torch.autograd.Function):
    """RMS norm, then the rotary embedding: x (B, S, H, D), weight (S, 1, D), turn (S, 1, D / 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, turn: Tensor, eps: float) -> Tensor:
        wide = x.to(weight.dtype)
        scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, turn, scale)
        return _turn(wide * weight, turn).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, turn, scale = ctx.saved_tensors
        wide = x.to(weight.dtype)
        back = dy.to(weight.dtype, copy=True, memory_format=torch.contiguous_format)
        dx = _turn(back, turn.conj_physical()).mul_(weight)
        along = (wide * dx).mean(-1, keepdim=True).mul_(scale.square())
        return dx.addcmul_(wide, along, value=-1).mul_(scale).to(x.dtype), None, None, None


def _turn(x: Tensor, turn: Tensor) -> Tensor:
    """Pairs of values as complex numbers, times `turn`, in place."""
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(turn)
    return x


def use_fast_gelu(network: nn.Module) -> None:
    """Let the tanh GELUs of a diffusers network compute themselves so where that is faster."""
    from diffusers.models.activations import GELU

    for module in network.modules():
        if isinstance(module, nn.GELU) and module.approximate == "tanh":
            module.forward = tanh_gelu
        elif isinstance(module, GELU) and module.approximate == "tanh":
            module.gelu = tanh_gelu


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU(x, approximate="tanh"), elementwise."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _TanhGelu.apply(x)
    return gelu(x, approximate="tanh")


class _TanhGelu(torch.autograd.Function):
    """The GELU, in place wherever it can be: what costs here is memory that is touched."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate = x.square().mul_(CUBIC).add_(LINEAR).mul_(x).sigmoid_()
        ctx.save_for_backward(x, gate)
        return gate * x

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, gate = ctx.saved_tensors
        # gate + x gate (1 - gate) (LINEAR + 3 CUBIC x^2)
        slope = x.square().mul_(3 * CUBIC).add_(LINEAR).mul_(x)
        return slope.addcmul_(slope, gate, value=-1).add_(1).mul_(gate).mul_(dy)
