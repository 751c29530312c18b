"""A GPU that is not there: tensors of real sizes on it, which have all but values.

PyTorch's fake tensors know shape, type and device. To C++ they lie on the meta device, which every
build has; Python, and so every check of devices, sees `cuda:0`. What C++ then no longer does is
done here: autocast, by PyTorch's own lists, and the choice of an attention kernel. Small tensors on
the CPU stay real, so that times, draws and experts are what they would be.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

GPU, META = torch.device("cuda:0"), torch.device("meta")
F, aten = nn.functional, torch.ops.aten
LOW = (torch.bfloat16, torch.float16)
# aten/src/ATen/autocast_mode.h, as far as the networks use it: products take the low type, what
# sums up takes float32.
PRODUCTS = {F.linear, F.conv1d, F.conv2d, F.conv3d, F.scaled_dot_product_attention}
PRODUCTS |= {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.baddbmm, torch.addmm}
SUMS = {F.layer_norm, F.group_norm, F.rms_norm, F.softmax, F.mse_loss, torch.rsqrt, torch.pow}
SUMS |= {Tensor.pow, Tensor.__pow__, Tensor.rsqrt, Tensor.sum, torch.sum, torch.exp, Tensor.exp}


class Gpu(TorchDispatchMode):
    """Counts what makes a program wait for the GPU, and the bytes that live on it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.products: Counter[torch.dtype] = Counter()
        self.attention: Counter[torch.dtype] = Counter()
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        if kwargs.get("device") == META:  # C++, in a backward
            kwargs["device"] = GPU
        tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
        there = any(isinstance(t, FakeTensor) and t.device == GPU for t in tensors)
        if name == "_pin_memory":
            return args[0]
        if there and name in ("_local_scalar_dense", "nonzero", "masked_select"):
            self._wait(name)
        if name == "_local_scalar_dense" and any(isinstance(t, FakeTensor) for t in tensors):
            return True if args[0].dtype == torch.bool else 1
        wanted = torch.device(kwargs.get("device") or "cpu")
        if wanted.type == "cpu" and not any(isinstance(t, FakeTensor) for t in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        found = func(*args, **kwargs)
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            self.products[found.dtype] += 1
        if name.startswith("_scaled_dot_product") and "backward" not in name:
            self.attention[args[0].dtype] += 1
        self._note_copy(name, args, kwargs, found)
        tree_map_only(Tensor, self.note, found)
        return found

    def _note_copy(self, name: str, args: tuple, kwargs: dict, found: Any) -> None:
        """Copies wait that go to the CPU, or come from there and are not said to be free to."""
        if name == "_to_copy":
            pair, free = (args[0].device, found.device), kwargs.get("non_blocking")
        elif name == "copy_":
            pair, free = (args[1].device, args[0].device), kwargs.get("non_blocking")
        else:
            return
        if pair[0] != pair[1] and GPU in pair and not (free and pair[1] == GPU):
            self._wait("copy to the CPU" if pair[0] == GPU else "copy to the GPU")

    def _wait(self, what: str) -> None:
        """Count a wait, with the line outside of PyTorch that it comes from."""
        frame = sys._getframe(1)
        while "/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
            frame = frame.f_back
        self.waits[f"{what}, {frame.f_code.co_filename}:{frame.f_lineno}"] += 1

    def note(self, tensor: Tensor) -> None:
        """Count a storage on the GPU once, until it is freed."""
        if not isinstance(tensor, FakeTensor) or tensor.device != GPU:
            return
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            size = storage.nbytes()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.live -= size


class _Autocast(TorchFunctionMode):
    """What `torch.autocast("cuda")` does, and attention by the kernel that a GPU would choose."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cuda") and (func in PRODUCTS or func in SUMS):
            low = torch.get_autocast_dtype("cuda")
            wanted = low if func in PRODUCTS else torch.float32
            args, kwargs = tree_map_only(FakeTensor, lambda t: _cast(t, wanted), (args, kwargs))
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(dtype) if eligible and tensor.device == GPU else tensor


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    """Flash attention in 16 bits, the memory-efficient kernel else: neither keeps N x N values."""
    q, k, v = query, key, value
    assert q.dtype == k.dtype == v.dtype, (q.dtype, k.dtype, v.dtype)
    assert q.device == k.device == v.device == GPU
    if q.dtype in LOW and attn_mask is None:
        return aten._scaled_dot_product_flash_attention(q, k, v)[0]
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    mask = None if attn_mask is None else attn_mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    return aten._scaled_dot_product_efficient_attention(q, k, v, mask, grad)[0]


class _Data(property):
    """`tensor.data = other` for fake tensors: C++ knows nothing of the device that Python sees."""

    def __set__(self, tensor: FakeTensor, other: FakeTensor) -> None:
        Tensor.data.__set__(tensor, other)
        tensor.fake_device = other.fake_device


@contextmanager
def fake_gpu() -> Iterator[FakeTensorMode]:
    """Inside, `cuda:0` can be named; enter the mode that is given where tensors are to be fake."""
    mode, made = FakeTensorMode(allow_non_fake_inputs=True), Tensor._make_subclass

    def on_meta(*args: Any, dispatch_device: bool = False, **kwargs: Any) -> Tensor:
        kwargs.pop("device_for_backend_keys", None)
        return made(*args, **kwargs)

    def tolist(tensor: FakeTensor) -> list:
        there = tensor.cpu()  # one copy, of whatever length
        return torch.ones(there.shape).tolist()

    def swap(into: Tensor, other: Tensor) -> None:
        into.data = other.data

    def backward(*args: Any, **kwargs: Any) -> Any:
        with autocast:  # for blocks that compute themselves again
            return run(*args, **kwargs)

    autocast, run = _Autocast(), torch.autograd._engine_run_backward
    with ExitStack() as stack:
        for name, value in {
            "torch.Tensor._make_subclass": staticmethod(on_meta),
            "torch.autograd._engine_run_backward": backward,
            "torch.utils.swap_tensors": swap,
            "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
            "torch.cuda.is_bf16_supported": lambda *_: True,
        }.items():
            stack.enter_context(mock.patch(name, value))
        data = _Data(lambda tensor: tensor.detach())
        stack.enter_context(mock.patch.object(FakeTensor, "data", data, create=True))
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", tolist, create=True))
        stack.enter_context(autocast)
        yield mode
