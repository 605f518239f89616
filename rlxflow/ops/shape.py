"""Moving data: reshape, transpose, slice, concat, broadcast, gather."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array, bf16, f16, f32
from rlxflow.errors import InputError
from rlxflow.ir.dims import UNKNOWN, Dim, Shape, agree, product, shape_text
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import (
    axis_of,
    broadcast,
    fail,
    want_at_least_rank,
    want_dim,
    want_dtype,
    want_integer,
    want_plain,
    want_rank,
)


@op("primitive")
def reshape(x: Value, *, shape: Shape) -> Type:
    """x with the same elements, in the same order, in another shape."""
    want_plain("x", x)
    same = _reshape_rows(x, shape=shape)  # sizes in front that stay divide out
    if not agree(product(x.shape[same:]), product(shape[same:])):
        raise fail(f"cannot reshape {shape_text(x.shape)} to {shape_text(shape)}")
    return Type(x.dtype, shape)


@reshape.rows
def _reshape_rows(x: Value, *, shape: Shape) -> int:
    same = 0
    while same < min(x.rank, len(shape)) and x.shape[same] == shape[same] not in (UNKNOWN, 0):
        same += 1
    return same


@op("primitive")
def transpose(x: Value, *, perm: tuple[int, ...]) -> Type:
    """Axis i of the result is axis perm[i] of x."""
    if x.dtype.packed and perm[-1:] != (x.rank - 1,):
        want_plain("x", x)
    if sorted(perm) != list(range(x.rank)):
        raise fail(f"{perm} is not a permutation of {x.rank} axes")
    return Type(x.dtype, tuple(x.dim(p) for p in perm))


@transpose.rows
def _transpose_rows(x: Value, *, perm: tuple[int, ...]) -> int:
    return next((i for i, p in enumerate(perm) if i != p), len(perm))


@op("primitive")
def slice_(x: Value, *, axis: int, start: int, stop: int) -> Type:
    """Elements start … stop − 1 along an axis."""
    axis = axis_of(axis, x.rank)
    size = x.dim(axis)
    if axis == x.rank - 1:
        want_plain("x", x)
    if not 0 <= start < stop or (isinstance(size, int) and stop > size):
        raise fail(f"slice {start}:{stop} does not fit size {size}")
    return Type(x.dtype, (*x.shape[:axis], stop - start, *x.shape[axis + 1 :]))


@slice_.reference
def _slice(x: Array, *, axis: int, start: int, stop: int) -> Array:
    if x.shape[axis] < stop:
        message = f"a slice {start}:{stop} was asked of {x.shape[axis]} positions"
        raise InputError(message, code="RLX-R007", hint=f"give at least {stop}")
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop)
    return x[tuple(index)]


slice_.rows(lambda x, *, axis, start, stop: axis % x.rank)


@op("primitive")
def concat(*xs: Value, axis: int) -> Type:
    """The operands one after the other along an axis."""
    if not xs:
        raise fail("concat wants at least one operand")
    axis = axis_of(axis, xs[0].rank)
    if axis == xs[0].rank - 1:
        want_plain("operand", xs[0])
    total: Dim = 0
    for x in xs:
        want_dtype("operand", x, xs[0].dtype)
        want_rank("operand", x, xs[0].rank)
        for i in range(x.rank):
            if i != axis:
                want_dim(f"axis {i}", x.dim(i), xs[0].dim(i))
        total = total + x.dim(axis)
    return Type(xs[0].dtype, (*xs[0].shape[:axis], total, *xs[0].shape[axis + 1 :]))


@concat.reference
def _concat(*xs: Array, axis: int) -> Array:
    return np.concatenate(xs, axis)


concat.rows(lambda *xs, axis: axis % xs[0].rank)


@op("primitive")
def broadcast_to(x: Value, *, shape: Shape) -> Type:
    """x repeated along axes of size 1 and new leading axes."""
    want_plain("x", x)
    if broadcast(x.shape, shape) != shape:
        raise fail(f"{shape_text(x.shape)} does not broadcast to {shape_text(shape)}")
    return Type(x.dtype, shape)


@op("primitive")
def gather(table: Value, ids: Value) -> Type:
    """Rows of a table: y[..., :] = table[ids[...], :].

    table: [N, ...] of any float or packed dtype; ids: integers. y is f32 where the table is a weight in a
    storage type (f16, bf16, packed), else in the table's dtype.
    """
    want_integer("ids", ids)
    want_at_least_rank("table", table, 2 if table.dtype.packed else 1)
    storage = table.dtype.packed or table.dtype in (f16, bf16)
    return Type(f32 if storage else table.dtype, (*ids.shape, *table.shape[1:]))


@gather.reference
def _gather(table: Array, ids: Array) -> Array:
    _want_ids(ids, len(table))
    return table[ids]


def _want_ids(ids: Array, count: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise InputError(
            f"id {bad} is outside a table of {count} rows",
            code="RLX-R001",
            hint=f"ids run from 0 to {count - 1}",
        )


gather.rows(lambda table, ids: ids.rank if table.node.op.name == "param" else 0)


@op("primitive")
def select_token(x: Value, index: Value) -> Type:
    """One position per sequence: y[b] = x[b, index[b]].

    x: [B, S, ...]; index: integer [B]; y: [B, ...].
    """
    want_integer("index", index)
    want_rank("index", index, 1)
    want_at_least_rank("x", x, 2)
    want_dim("batch of index", index.dim(0), x.dim(0))
    return Type(x.dtype, (x.dim(0), *x.shape[2:]))


@select_token.reference
def _select_token(x: Array, index: Array) -> Array:
    _want_ids(index, x.shape[1])
    return x[np.arange(len(x)), index]


reshape.reference(lambda x, *, shape: np.reshape(x, shape))
transpose.reference(lambda x, *, perm: np.transpose(x, perm))
broadcast_to.reference(lambda x, *, shape: np.broadcast_to(x, shape))
# a leading axis of a smaller x lands on an inner axis
broadcast_to.rows(lambda x, *, shape: 0 if x.rank < len(shape) and x.shape[:1] == shape[:1] else len(shape))
select_token.rows(lambda x, index: 1)
