"""Matrix products."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.dims import agree
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import (
    broadcast,
    fail,
    want_at_least_rank,
    want_dim,
    want_dtype,
    want_float,
    want_rank,
    want_weight,
)


@op("primitive")
def linear(x: Value, weight: Value) -> Type:
    """y = x · weightᵀ.

    x: float [..., K]. weight: [N, K] as in `torch.nn.Linear`, of any float or packed dtype.
    y: [..., N] in the dtype of x.
    """
    want_float("x", x)
    want_weight("weight", weight)
    want_rank("weight", weight, 2)
    if not agree(x.dim(-1), weight.dim(1)):
        hint = (
            "the weight looks transposed"
            if agree(x.dim(-1), weight.dim(0))
            else "a linear weight is [out, in]"
        )
        raise fail(f"x has width {x.dim(-1)}, the weight takes {weight.dim(1)}", hint)
    return Type(x.dtype, (*x.shape[:-1], weight.dim(0)))


@linear.reference
def _linear(x: Array, weight: Array) -> Array:
    return x @ weight.T


linear.rows(lambda x, weight: x.rank - 1)


@op("primitive")
def matmul(a: Value, b: Value) -> Type:
    """a · b for [..., M, K] and [..., K, N]; leading axes broadcast."""
    want_float("a", a)
    want_dtype("b", b, a.dtype)
    want_at_least_rank("a", a, 2)
    want_at_least_rank("b", b, 2)
    want_dim("rows of b", b.dim(-2), a.dim(-1))
    return Type(a.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), a.dim(-2), b.dim(-1)))


matmul.reference(np.matmul)
matmul.rows(lambda a, b: a.rank - 2 if a.rank == b.rank else 0)
