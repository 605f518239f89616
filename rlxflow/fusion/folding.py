"""Constant folding: what depends on constants only is computed when the graph is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import RlxError
from rlxflow.fusion.rewriting import rewritten
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ops.leaves import constant, full

MAX_BYTES = 65_536  # of one operand or result: a graph is no place for large arrays
_CONSTANTS = ("constant", "full", "iota")


def fold_constants(graph: Graph, notes: list[str]) -> Graph:
    """Replace nodes whose operands are constants of known size by a constant, through the op's reference.

    A result with one value everywhere becomes a `full`. A `full` that is reshaped, broadcast or cast stays
    one, whatever its size.
    """
    return rewritten(graph, _folded)


def _folded(node: Node, operands: tuple[Value | None, ...]) -> Value | None:
    if not operands or any(v is None or v.node.op.name not in _CONSTANTS for v in operands):
        return None
    (t,) = (v.type for v in node.outputs)
    values = [v for v in operands if v is not None]
    if node.op.name in ("reshape", "broadcast_to") and values[0].node.op is full:
        return full(value=values[0].node.attrs["value"], dtype=t.dtype, shape=t.shape)
    if node.op.reference_fn is None or not all(_small(v.type) for v in (*values, *node.outputs)):
        return None
    try:
        with np.errstate(all="ignore"):
            arrays = [_array(v.node) for v in values]
            result = np.asarray(node.op.reference_fn(*arrays, **node.attrs))
    except RlxError:  # an id outside a table: reported when the program runs
        return None
    return as_constant(result, t)


def _small(t: Type) -> bool:
    sizes = tuple(d for d in t.shape if isinstance(d, int))
    return len(sizes) == t.rank and t.dtype.nbytes(sizes) <= MAX_BYTES and not t.state


def _array(node: Node) -> Array:
    assert node.op.reference_fn is not None
    array: Array = node.op.reference_fn(**node.attrs)
    return array


def as_constant(array: Array, t: Type) -> Value:
    """Emit an array as a `full` where it holds one number, else as a `constant`."""
    array = np.ascontiguousarray(array, dtype=to_numpy(t.dtype)).reshape(array.shape)
    number = _one_number(array)
    if number is not None and t.dtype.kind in ("float", "int"):
        return full(value=number, dtype=t.dtype, shape=t.shape)
    little: Any = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return constant(data=little.tobytes(), dtype=t.dtype, shape=t.shape)


def _one_number(array: Array) -> float | None:
    if array.size == 0:
        return None
    first = array.reshape(-1)[:1]
    same = (array.reshape(-1).view(f"V{array.itemsize}") == first.view(f"V{array.itemsize}")).all()
    number = float(first[0])
    exact = number == number and array.dtype.type(number) == first[0]
    return number if same and exact else None
