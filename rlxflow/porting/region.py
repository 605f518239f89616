"""The part of a graph between recorded values: run from what the reference had, changed at will."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array, to_numpy
from rlxflow.ir.attrs import bind_attrs
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import WeightSource

# gives the node's results, or None to have it run as it is
Change: TypeAlias = Callable[[Node, list[Any]], Any]


@dataclass(frozen=True)
class Region:
    """The nodes from anchors to one target, the arrays at its borders, and what the target should be.

    `source` has the weights that the flow wants, `stored` all that the files hold.
    """

    graph: Graph
    target: Value
    nodes: tuple[Node, ...]
    given: Mapping[Value, Array]
    expected: Array
    valid: Array | None
    sizes: Mapping[str, int]
    source: WeightSource
    stored: WeightSource

    def has(self, *ops: str) -> list[Node]:
        """The nodes of these ops."""
        return [n for n in self.nodes if n.op.name in ops]

    def run(self, change: Change | None = None, target: Value | None = None) -> Array:
        """The target by the NumPy reference of each op, with some nodes changed."""
        values: dict[Value, Any] = dict(self.given)
        with np.errstate(all="ignore"):
            for node in self.nodes:
                operands = [None if v is None else values[v] for v in node.operands]
                result = change(node, operands) if change is not None else None
                if result is None:
                    result = self.plain(node, operands)
                results = result if isinstance(result, tuple) else (result,)
                values.update(zip(node.outputs, results, strict=True))
        array: Array = values[target or self.target]
        return array

    def plain(self, node: Node, operands: Sequence[Any], **attrs: Any) -> Any:
        """What a node gives on arrays, with some of its attributes changed."""
        if node.op.name == "param":
            return read_weight(self.source, node)
        if node.op.name == "state":
            dtype = to_numpy(node.attrs["dtype"])
            return np.zeros(bind_shape(node.attrs["shape"], self.sizes), dtype)
        assert node.op.reference_fn is not None  # the graph is of primitive ops
        return node.op.reference_fn(*operands, **bind_attrs({**node.attrs, **attrs}, self.sizes))

    def bias_of(self, key: str) -> Array | None:
        """The stored bias of a module whose weight has this key; None where there is none, or we read it."""
        wanted = key.removesuffix(".weight") + ".bias"
        if wanted == key or wanted in self.graph.params:
            return None
        for name in self.stored.keys():  # noqa: SIM118 (a source is no mapping)
            if name == wanted or name.endswith(f".{wanted}"):
                return self.stored.read(name).astype(np.float32)
        return None

    def error(self, actual: Array) -> float:
        """max|a − b| / max(1, max|b|) over valid positions; infinite where shapes differ or not finite."""
        return relative_error(actual, self.expected, self.valid)


def relative_error(actual: Array, expected: Array, valid: Array | None) -> float:
    """max|a − b| / max(1, max|b|), over the positions that `valid` [B, S] marks, where arrays have such."""
    if actual.shape != expected.shape:
        return float("inf")
    a, b = at_valid(actual, valid), at_valid(expected, valid)
    if not np.isfinite(a).all():
        return float("inf")
    worst = np.abs(a.astype(np.float64) - b).max(initial=0.0)
    return float(worst / max(1.0, float(np.abs(b).max(initial=0.0))))


def at_valid(array: Array, valid: Array | None) -> Array:
    """[tokens, …]: the valid positions of an array [B, S, …]; an array without them as it is."""
    if valid is None or array.shape[:2] != valid.shape:
        return array.reshape(-1, array.shape[-1]) if array.ndim == 2 else array
    return array[valid]


def cut_out(
    graph: Graph,
    target: Value,
    expected: Array,
    known: Mapping[Value, Array],
    *,
    valid: Array | None,
    sizes: Mapping[str, int],
    source: WeightSource,
    stored: WeightSource,
) -> Region:
    """The region that computes `target` from the nearest known values (itself not counted)."""
    wanted, todo = set(), [target.node]
    given = {}
    while todo:
        node = todo.pop()
        if node in wanted:
            continue
        wanted.add(node)
        for value in node.inputs:
            if value in known and value != target:
                given[value] = known[value]
            else:
                todo.append(value.node)
    nodes = tuple(n for n in graph.nodes if n in wanted)
    order = {node: i for i, node in enumerate(graph.nodes)}
    given = dict(sorted(given.items(), key=lambda item: order[item[0].node]))
    return Region(graph, target, nodes, given, expected, valid, sizes, source, stored)


def read_weight(source: WeightSource, node: Node) -> Array:
    """The array of a param node, as f32."""
    array, dtype = source.read(node.attrs["key"]), node.attrs["dtype"]
    if dtype.packed:
        array = dequantize(dtype, array).reshape(node.attrs["shape"])
    return array.astype(np.float32) if dtype.is_float else array
