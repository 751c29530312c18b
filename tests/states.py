"""Comparing what checkpoints hold."""

from __future__ import annotations

import torch


def same(a: object, b: object) -> bool:
    """Equal to the last bit, type and key, at every depth."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b
