"""Reductions over the last axis."""

from __future__ import annotations

from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import want_at_least_rank, want_float


@op("primitive")
def mean(x: Value) -> Type:
    """Mean over the last axis, which stays with size 1. x: float [..., N]; result: [..., 1]."""
    want_float("x", x)
    want_at_least_rank("x", x, 1)
    return Type(x.dtype, (*x.shape[:-1], 1))


mean.reference(lambda x: x.mean(-1, keepdims=True))
mean.rows(lambda x: x.rank - 1)
