"""Leaves: inputs, weights, states and constants."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array, DType, to_numpy
from rlxflow.ir.dims import Dim, Shape
from rlxflow.ir.op import op
from rlxflow.ir.values import Type
from rlxflow.ops.checks import fail


def _want_key(key: str) -> None:
    if not key:
        raise fail("the key is empty", "name the array")


@op("primitive")
def input_(*, key: str, dtype: DType, shape: Shape) -> Type:
    """A named array given at each call."""
    _want_key(key)
    if dtype.packed:
        raise fail(f"input {key!r} is packed {dtype}", "inputs are plain arrays")
    return Type(dtype, shape)


@op("primitive")
def param(*, key: str, dtype: DType, shape: Shape) -> Type:
    """A weight, named by its checkpoint key, in the dtype and layout of the checkpoint."""
    _want_key(key)
    return Type(dtype, shape)


@op("primitive")
def state(*, key: str, dtype: DType, shape: Shape) -> Type:
    """A buffer that lives across calls, used linearly."""
    _want_key(key)
    if dtype.kind != "float":
        raise fail(f"state {key!r} is {dtype}", "caches hold f32, f16 or bf16")
    return Type(dtype, shape, state=True)


@op("primitive")
def constant(*, data: bytes, dtype: DType, shape: Shape) -> Type:
    """A small array written into the graph, little-endian and C-contiguous."""
    sizes = tuple(d for d in shape if isinstance(d, int))
    if len(sizes) != len(shape) or dtype.packed or len(data) != dtype.nbytes(sizes):
        raise fail(f"constant has {len(data)} bytes, which is not {dtype}{shape}")
    return Type(dtype, shape)


@constant.reference
def _constant(*, data: bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(data, to_numpy(dtype)).reshape(shape)


@op("primitive")
def full(*, value: float, dtype: DType, shape: Shape) -> Type:
    """An array with one value everywhere; the dtype must hold the value."""
    if dtype.packed or (dtype.kind != "float" and not value.is_integer()):
        raise fail(f"{value} is not a value of {dtype}", "choose another dtype")
    return Type(dtype, shape)


@full.reference
def _full(*, value: float, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.full(shape, value, to_numpy(dtype))


@op("primitive")
def iota(*, size: Dim, dtype: DType) -> Type:
    """0, 1, …, size − 1."""
    if dtype.kind not in ("int", "float") or (isinstance(size, int) and size < 0):
        raise fail(f"cannot count to {size} in {dtype}", "use a number type and a size of 0 or more")
    return Type(dtype, (size,))


@iota.reference
def _iota(*, size: int, dtype: DType) -> Array:
    return np.arange(size, dtype=to_numpy(dtype))
