"""Moving data: reshape, transpose, slice, concat, broadcast, gather."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.dims import UNKNOWN, Dim, Shape, agree, product, shape_text
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import axis_of, broadcast, fail, want_dim, want_dtype, want_integer, want_rank


@op("primitive")
def reshape(x: Value, *, shape: Shape) -> Type:
    """x with the same elements, in the same order, in another shape."""
    if not agree(product(x.shape), product(shape)):
        raise fail(f"cannot reshape {shape_text(x.shape)} to {shape_text(shape)}")
    return Type(x.dtype, shape)


@reshape.rows
def _reshape_rows(x: Value, *, shape: Shape) -> int:
    same = 0
    while same < min(x.rank, len(shape)) and x.dim(same) == shape[same] != UNKNOWN:
        same += 1
    return same


@op("primitive")
def transpose(x: Value, *, perm: tuple[int, ...]) -> Type:
    """Axis i of the result is axis perm[i] of x."""
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
    if not 0 <= start < stop or (isinstance(size, int) and stop > size):
        raise fail(f"slice {start}:{stop} does not fit size {size}")
    return Type(x.dtype, (*x.shape[:axis], stop - start, *x.shape[axis + 1 :]))


@slice_.reference
def _slice(x: Array, *, axis: int, start: int, stop: int) -> Array:
    if x.shape[axis] < stop:
        raise fail(f"slice {start}:{stop} does not fit size {x.shape[axis]}")
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
    if broadcast(x.shape, shape) != shape:
        raise fail(f"{shape_text(x.shape)} does not broadcast to {shape_text(shape)}")
    return Type(x.dtype, shape)


@op("primitive")
def gather(table: Value, ids: Value) -> Type:
    """Rows of a table: y[..., :] = table[ids[...], :].

    table: [N, ...] of any float or packed dtype; ids: integers. y is f32 where the table is a weight in a
    storage type (f16, bf16, packed), else in the table's dtype.
    """
    from rlxflow.dtypes import bf16, f16, f32

    want_integer("ids", ids)
    if table.rank < 1:
        raise fail("the table has no rows")
    storage = table.dtype.packed or table.dtype in (f16, bf16)
    return Type(f32 if storage else table.dtype, (*ids.shape, *table.shape[1:]))


@gather.reference
def _gather(table: Array, ids: Array) -> Array:
    if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
        from rlxflow.errors import InputError

        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise InputError(
            f"id {bad} is outside a table of {len(table)} rows",
            code="RLX-R001",
            hint=f"ids run from 0 to {len(table) - 1}",
        )
    return table[ids]


gather.rows(lambda table, ids: ids.rank if table.node.op.name == "param" else 0)


@op("primitive")
def select_token(x: Value, index: Value) -> Type:
    """One position per sequence: y[b] = x[b, index[b]].

    x: [B, S, ...]; index: integer [B]; y: [B, ...].
    """
    want_integer("index", index)
    want_rank("index", index, 1)
    if x.rank < 2:
        raise fail("x has no sequence axis")
    want_dim("batch of index", index.dim(0), x.dim(0))
    return Type(x.dtype, (x.dim(0), *x.shape[2:]))


@select_token.reference
def _select_token(x: Array, index: Array) -> Array:
    return x[np.arange(len(x)), index]


reshape.reference(lambda x, *, shape: np.reshape(x, shape))
transpose.reference(lambda x, *, perm: np.transpose(x, perm))
broadcast_to.reference(lambda x, *, shape: np.broadcast_to(x, shape))
broadcast_to.rows(lambda x, *, shape: len(shape))
select_token.rows(lambda x, index: 1)
