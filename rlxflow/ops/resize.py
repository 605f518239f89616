"""Resizing a grid of vectors, such as the position table of a vision model for images of another size."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array, bf16, f16, f32
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import fail, want_dim, want_float, want_rank

_SHARPNESS = -0.75  # of the cubic kernel, as in torch


@op("primitive")
def resize_grid(x: Value, *, old: tuple[int, int], new: tuple[int, int]) -> Type:
    """A grid of vectors, bicubically resized (`torch.nn.functional.interpolate` with align_corners=False).

    x: float [old₀ · old₁, H], rows of the grid one after the other; result: [new₀ · new₁, H], f32 where x is
    a weight in a half type.
    """
    want_float("x", x)
    want_rank("x", x, 2)
    if len(old) != 2 or len(new) != 2 or min(*old, *new) < 1:
        raise fail(f"a grid cannot be resized from {old} to {new}", "give two sizes above 0 each")
    want_dim("rows of the grid", x.dim(0), old[0] * old[1])
    return Type(f32 if x.dtype in (f16, bf16) else x.dtype, (new[0] * new[1], x.dim(1)))


@resize_grid.reference
def _resize_grid(x: Array, *, old: tuple[int, int], new: tuple[int, int]) -> Array:
    grid = x.astype(np.float64).reshape(*old, -1)
    rows, columns = (_cubic(a, b) for a, b in zip(old, new, strict=True))
    resized = np.einsum("pr,rch,qc->pqh", rows, grid, columns)
    wide = np.float64 if x.dtype == np.float64 else np.float32
    return resized.reshape(new[0] * new[1], -1).astype(wide)


def _cubic(old: int, new: int) -> Array:
    """[new, old]: the weight of each old position in each new one; positions beyond the edge count as it."""
    at = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(at)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        distance = np.abs(at - (first + tap))
        near = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance**2 + 1
        far = _SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
        column = np.clip(first + tap, 0, old - 1).astype(np.int64)
        np.add.at(weights, (np.arange(new), column), np.where(distance <= 1, near, far))
    return weights
