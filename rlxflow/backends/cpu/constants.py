"""Values that depend on weights only: found in the graph, computed once by the ops' references."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array, DType, f32
from rlxflow.errors import BackendError
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.weights.source import Weights

LEAVES = ("input", "state")


def constant_values(graph: Graph) -> set[Value]:
    """Weights, numbers and what is computed from them alone, where the shape names no size."""
    found: set[Value] = set()
    for node in graph.nodes:
        fixed = all(isinstance(d, int) for v in node.outputs for d in v.shape)
        if node.op.name not in LEAVES and fixed and all(v in found for v in node.inputs):
            found.update(node.outputs)
    return found


class Constants:
    """Reads weights as f32; evaluates expressions of them."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def read(self, value: Value) -> Array:
        """The array of a constant value, C-contiguous."""
        results: dict[Value, Any] = {}
        for node in _ancestors(value.node):
            if node.op.name == "param":
                results[node.outputs[0]] = self._param(node)
                continue
            if node.op.reference_fn is None:
                raise BackendError(
                    f"op {node.op.name!r} has no reference", code="RLX-B003", hint="give the op a reference"
                )
            with np.errstate(all="ignore"):
                out = node.op.reference_fn(
                    *(None if v is None else results[v] for v in node.operands), **node.attrs
                )
            results.update(zip(node.outputs, out if len(node.outputs) > 1 else (out,), strict=True))
        return np.ascontiguousarray(results[value])

    def stored(self, value: Value) -> tuple[DType, Array]:
        """A weight as it is stored, packed ones as bytes; what is computed from weights, as f32."""
        node = value.node
        return (value.dtype, self._stored(node)) if node.op.name == "param" else (f32, self.read(value))

    def _param(self, node: Node) -> Array:
        dtype, array = node.attrs["dtype"], self._stored(node)
        if dtype.packed:
            return dequantize(dtype, array)
        return array.astype(np.float32, copy=False) if dtype.is_float else array

    def _stored(self, node: Node) -> Array:
        key, dtype, shape = (node.attrs[n] for n in ("key", "dtype", "shape"))
        array = self._weights.read(key)
        last = array.shape[-1:]
        if dtype.packed:
            last = (last[0] // dtype.block_bytes * dtype.block_size,)
        if (*array.shape[:-1], *last) != shape:
            message = f"weight {key!r} is read as {list(array.shape)}, not {list(shape)}"
            raise BackendError(message, code="RLX-B004", hint="build the flow again with these weights")
        return array


def _ancestors(node: Node) -> list[Node]:
    """A node and all it is computed from, operands first."""
    order: dict[Node, None] = {}
    stack = [(node, False)]
    while stack:
        current, ready = stack.pop()
        if ready:
            order[current] = None
        elif current not in order:
            stack.append((current, True))
            stack += [(v.node, False) for v in current.inputs if v.node not in order]
    return list(order)
