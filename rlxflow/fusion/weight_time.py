"""Weight-time expressions: what depends on weights alone is worked out once, when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.dtypes import Array, to_numpy
from rlxflow.fusion.rewriting import renamed
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, live_nodes
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ops.leaves import param
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import Weights

MOVES = frozenset(["concat", "slice", "transpose", "reshape", "broadcast_to"])  # exact in any stored dtype
PACKED_MOVES = frozenset(["concat", "slice", "transpose"])  # of whole rows, which are bytes


@dataclass(frozen=True, eq=False)
class Hoisted:
    """A graph whose weights are ready to use, and how to make those that are not stored.

    `expressions` maps a derived weight key, such as `concat(q.weight,k.weight)#4f1c…`, to a graph of params
    and constants with one output `value`. The key is a digest of the expression: equal expressions in
    several plans have one key, so a backend that packs by key packs them once.
    """

    graph: Graph
    expressions: Mapping[str, Graph]


def hoist(graph: Graph) -> Hoisted:
    """Split off every expression of weights; its result becomes a weight of the graph that remains."""
    hoistable = _hoistable(graph, weight_only(graph))
    kept = set(graph.outputs.values())
    roots = [
        value
        for node in graph.nodes
        if node in hoistable
        for value in node.outputs
        if value in kept or any(user not in hoistable for user in graph.users.get(value, ()))
    ]
    if not roots:
        return Hoisted(graph, {})
    expressions = {value: _expression(value) for value in roots}
    keys = {value: _key(expression) for value, expression in expressions.items()}
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for node in graph.nodes:
            operands = tuple(None if v is None else moved[v] for v in node.operands)
            with builder.scope(*graph.stages.get(node, ())):
                made = builder.node(node.op, operands, node.attrs)
                for value, new in zip(node.outputs, made.outputs, strict=True):
                    moved[value] = _param(keys[value], value.type) if value in keys else new
    return Hoisted(renamed(graph, builder, moved), {keys[v]: e for v, e in expressions.items()})


def weight_only(graph: Graph) -> set[Node]:
    """Nodes that depend on weights and constants of fixed size alone, weights themselves included."""
    found: set[Node] = set()
    for node in graph.nodes:
        fixed = all(isinstance(d, int) for v in node.outputs for d in v.shape)
        leaf = node.op.name in ("param", "constant", "full", "iota")
        if fixed and (leaf or (node.inputs and all(v.node in found for v in node.inputs))):
            found.add(node)
    return found


def _hoistable(graph: Graph, weights: set[Node]) -> set[Node]:
    """Computed weights from which something is gained (a param takes part), and that can be worked out: every
    op has a reference, and packed rows are only moved."""
    found: set[Node] = set()
    params: set[Node] = set()
    packed: set[Node] = set()  # a packed param takes part
    stuck: set[Node] = set()  # an op without a reference takes part
    other: set[Node] = set()  # an op takes part that packed rows cannot go through
    for node in (n for n in graph.nodes if n in weights):
        below = {node, *(v.node for v in node.inputs)}
        if node.op is param or below & params:
            params.add(node)
        if any(v.dtype.packed for v in node.outputs) or below & packed:
            packed.add(node)
        if (node.inputs and node.op.reference_fn is None) or below & stuck:
            stuck.add(node)
        if (node.inputs and node.op.name not in PACKED_MOVES) or below & other:
            other.add(node)
        if node.inputs and node in params and node not in stuck and not (node in packed and node in other):
            found.add(node)
    return found


def _below(node: Node) -> list[Node]:
    """A node and everything it is computed from, operands first."""
    found: dict[Node, None] = {}
    stack = [(node, False)]
    while stack:
        current, ready = stack.pop()
        if ready:
            found[current] = None
        elif current not in found:
            stack.append((current, True))
            stack += [(v.node, False) for v in reversed(current.inputs)]
    return list(found)


def _expression(value: Value) -> Graph:
    outputs = {"value": value}
    return Graph("weights", {}, outputs, (), live_nodes(_below(value.node), {}, outputs, ()))


def _key(expression: Graph) -> str:
    root = expression.outputs["value"].node
    names = ",".join(expression.params)
    shown = names if len(names) <= 120 else names[:117] + "…"
    return f"{root.op.name}({shown})#{expression.digest[:16]}"


def _param(key: str, t: Type) -> Value:
    return param(key=key, dtype=t.dtype, shape=t.shape)


class WeightView:
    """Stored weights and derived ones under one `read`; nothing is kept, each read works out anew.

    At no time is more held than the result, the operand being read and what that is computed from: parts of a
    concatenation are read one by one into the result.
    """

    def __init__(self, stored: Weights, expressions: Mapping[str, Graph]) -> None:
        self._stored = stored
        self._expressions = dict(expressions)

    def read(self, key: str) -> Array:
        """A stored tensor as the source gives it, or the value of an expression, C-contiguous."""
        expression = self._expressions.get(key)
        return self._stored.read(key) if expression is None else evaluate(expression, self._stored)


def evaluate(expression: Graph, weights: Weights) -> Array:
    """The value of an expression, in its own dtype (packed: bytes, as `WeightSource.read` gives them).

    Moves run on the stored elements; arithmetic on floats narrower than f32 runs in f32, and its result is
    rounded to the node's dtype.
    """
    return np.ascontiguousarray(_value(expression.outputs["value"], weights))


def _value(value: Value, weights: Weights) -> Array:
    """Depth-first without recursion, so that a long chain is no problem; parts of a concat one by one."""
    arrays: dict[Value, Array] = {}
    left = _reads(value)
    for node in _below(value.node):
        if node.op.name == "param":
            continue  # read where it is used, and let go after
        if node is value.node and node.op.name == "concat":
            return _concat(node, arrays, weights)
        operands = [_operand(v, arrays, weights) for v in node.operands]
        results = _apply(node, operands)
        del operands
        arrays.update(zip(node.outputs, results, strict=True))
        for v in node.inputs:
            left[v] -= 1
            if not left[v]:
                arrays.pop(v, None)
    return arrays[value] if value in arrays else weights.read(value.node.attrs["key"])


def _reads(value: Value) -> dict[Value, int]:
    """How many operands each value below `value` is."""
    left: dict[Value, int] = {}
    for node in _below(value.node):
        for v in node.inputs:
            left[v] = left.get(v, 0) + 1
    return left


def _operand(v: Value | None, arrays: Mapping[Value, Array], weights: Weights) -> Array | None:
    if v is None or v.node.op.name != "param":
        return None if v is None else arrays[v]
    return weights.read(v.node.attrs["key"])


def _concat(node: Node, arrays: dict[Value, Array], weights: Weights) -> Array:
    axis = node.attrs["axis"] % node.outputs[0].rank
    result: Array | None = None
    at = 0
    for v in node.inputs:
        part = _operand(v, arrays, weights)
        assert part is not None
        if result is None:
            total = sum(u.shape[axis] for u in node.inputs if isinstance(u.shape[axis], int))
            shape = (*part.shape[:axis], total, *part.shape[axis + 1 :])
            result = np.empty(shape, part.dtype)
        index = (slice(None),) * axis + (slice(at, at + part.shape[axis]),)
        result[index] = part
        at += part.shape[axis]
    assert result is not None
    return result


def _apply(node: Node, operands: list[Array | None]) -> tuple[Array, ...]:
    function = node.op.reference_fn
    assert function is not None  # such a node is not hoisted
    if node.op.name not in MOVES:
        operands = [None if a is None else _widened(a) for a in operands]
    with np.errstate(all="ignore"):
        result = function(*operands, **node.attrs)
    results = result if isinstance(result, tuple) else (result,)
    if node.op.name in MOVES:
        return results
    return tuple(
        np.asarray(r).astype(to_numpy(v.dtype), copy=False)
        for r, v in zip(results, node.outputs, strict=True)
    )


def _widened(array: Array) -> Array:
    """Half floats in f32; all else as it is."""
    half = array.dtype.itemsize < 4 and array.dtype.kind not in "iub"
    return array.astype(np.float32) if half else array
