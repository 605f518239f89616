"""Elementwise arithmetic.

Shapes broadcast from the last axis. Dtypes must be equal (use `cast`), but a weight may be stored in another
float type than the value it meets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlxflow.dtypes import Array, DType, bool_, to_numpy
from rlxflow.ir.op import Op, op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import (
    broadcast,
    broadcast_rows,
    common_dtype,
    fail,
    want_dtype,
    want_float,
    want_number,
    want_plain,
)
from rlxflow.ops.erf import erf as numpy_erf


def _binary(a: Value, b: Value) -> Type:
    want_number("a", a)
    return Type(common_dtype(a, b), broadcast(a.shape, b.shape))


@op("primitive", commutative=True)
def add(a: Value, b: Value) -> Type:
    """a + b"""
    return _binary(a, b)


@op("primitive")
def sub(a: Value, b: Value) -> Type:
    """a − b"""
    return _binary(a, b)


@op("primitive", commutative=True)
def mul(a: Value, b: Value) -> Type:
    """a · b"""
    return _binary(a, b)


@op("primitive")
def div(a: Value, b: Value) -> Type:
    """a / b, for floats"""
    want_float("a", a)
    return _binary(a, b)


@op("primitive", commutative=True)
def maximum(a: Value, b: Value) -> Type:
    """max(a, b)"""
    return _binary(a, b)


@op("primitive", commutative=True)
def minimum(a: Value, b: Value) -> Type:
    """min(a, b)"""
    return _binary(a, b)


@op("primitive")
def where(condition: Value, a: Value, b: Value) -> Type:
    """a where the condition is true, else b"""
    want_dtype("condition", condition, bool_)
    want_plain("a", a)
    return Type(common_dtype(a, b), broadcast(condition.shape, broadcast(a.shape, b.shape)))


@op("primitive")
def less(a: Value, b: Value) -> Type:
    """a < b"""
    return Type(bool_, _binary(a, b).shape)


@op("primitive")
def cast(x: Value, *, dtype: DType) -> Type:
    """x in another plain dtype; floats are cut towards zero, and non-zero is true"""
    want_plain("x", x)
    if dtype.packed:
        raise fail(f"cannot cast to packed {dtype}", "packed weights come from files")
    return Type(dtype, x.shape)


def _cast(x: Array, *, dtype: DType) -> Array:
    return x.astype(to_numpy(dtype))


@op("primitive")
def neg(x: Value) -> Type:
    """−x"""
    want_number("x", x)
    return x.type


@op("primitive")
def exp(x: Value) -> Type:
    """eˣ"""
    want_float("x", x)
    return x.type


@op("primitive")
def erf(x: Value) -> Type:
    """2/√π · ∫₀ˣ exp(−t²) dt"""
    want_float("x", x)
    return x.type


@op("primitive")
def tanh(x: Value) -> Type:
    """tanh x"""
    want_float("x", x)
    return x.type


@op("primitive")
def sqrt(x: Value) -> Type:
    """√x"""
    want_float("x", x)
    return x.type


@op("primitive")
def rsqrt(x: Value) -> Type:
    """1 / √x"""
    want_float("x", x)
    return x.type


_REFERENCES: dict[Op[..., Value], Any] = {
    add: np.add,
    sub: np.subtract,
    mul: np.multiply,
    div: np.divide,
    less: np.less,
    where: np.where,
    maximum: np.maximum,
    minimum: np.minimum,
    neg: np.negative,
    exp: np.exp,
    erf: numpy_erf,
    tanh: np.tanh,
    sqrt: np.sqrt,
    rsqrt: lambda x: 1 / np.sqrt(x),
    cast: _cast,
}
for _op, _fn in _REFERENCES.items():
    _op.reference(_fn)
    _op.rows(broadcast_rows)
