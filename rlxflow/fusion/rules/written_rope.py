"""RecogniseRope: rotation written with a rotated half, as HF's `apply_rotary_pos_emb` does.

x ┬ ─────────────────────── · cos ┐
  └ (x₁, x₂) → (−x₂, x₁) ── · sin add ─ y

cos and sin are tables [B, S, D/2], doubled along the last axis; all layers share the doubled ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, mul, neg
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import concat, reshape, slice_


def _rotate_half(axis: int) -> Callable[[Value, Value, Value], Value]:
    """The spelling whose slices and concats name the last axis of x as `axis`, 3 or −1."""

    def spelling(x: Value, cos: Value, sin: Value) -> Value:
        half: Any = cos.dim(2)  # a symbolic size is refused by slice
        first = slice_(x, axis=axis, start=0, stop=half)
        second = slice_(x, axis=axis, start=half, stop=2 * half)
        rotated = concat(neg(second), first, axis=axis)
        return add(mul(x, _per_head(cos, axis)), mul(rotated, _per_head(sin, axis)))

    return spelling


def _per_head(table: Value, axis: int) -> Value:
    """A table doubled, with an axis for the heads."""
    doubled = concat(table, table, axis=-1 if axis < 0 else 2)
    return reshape(doubled, shape=(table.dim(0), table.dim(1), 1, 2 * table.dim(2)))


RULE = Rule("recognise-rope", rope, spellings=(_rotate_half(-1), _rotate_half(3)))
