"""Pooling of token vectors into one vector per sequence."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import want_float, want_mask, want_rank


@op("primitive")
def mean_pool(x: Value, mask: Value) -> Type:
    """Mean of the valid tokens: Σ x[b, s]·m[b, s] / max(Σ m[b, s], 1e-9) (sentence-transformers `Pooling`).

    x: float [B, S, H]; mask: integer or bool [B, S], non-zero = valid. Result: [B, H].
    """
    want_float("x", x)
    want_rank("x", x, 3)
    want_mask("mask", mask, x.shape[:2])
    return Type(x.dtype, (x.dim(0), x.dim(2)))


@mean_pool.reference
def _mean_pool(x: Array, mask: Array) -> Array:
    m = (mask != 0).astype(x.dtype)[..., None]
    return (x * m).sum(1) / np.maximum(m.sum(1), x.dtype.type(1e-9))


mean_pool.rows(lambda x, mask: 1)
mean_pool.ignores_invalid("mask")
