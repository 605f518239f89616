"""What a graph costs under given sizes: FLOPs, bytes moved, and weight bytes, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rlxflow.errors import GraphError
from rlxflow.fusion.report import Cost
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph, attrs_text
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ops.leaves import input_, param, state

Sizes = Mapping[str, int]


# FLOPs per element of the result; a transcendental function counts as 10
_PER_ELEMENT = {
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum", "where", "less", "neg"), 1),
    **dict.fromkeys(("sqrt", "rsqrt", "relu", "relu2"), 2),
    **dict.fromkeys(("exp", "tanh", "cast"), 10),
    **dict.fromkeys(("sigmoid", "silu", "quick_gelu"), 12),
    **dict.fromkeys(("gelu", "gelu_tanh"), 15),
    **dict.fromkeys(("rms_norm", "rope"), 4),
    **dict.fromkeys(("layer_norm", "l2_normalize"), 8),
    **dict.fromkeys(("softmax", "rope_tables"), 20),
}


def cost(graph: Graph, sizes: Sizes) -> Cost:
    """The cost of one call; `sizes` gives `B`, `S` and, for decoders, `C` (cache positions that are read).

    Raises `GraphError` for a size that is not given.
    """
    known: dict[tuple[Any, ...], tuple[int, int]] = {}
    flops = moved = nodes = 0
    for node in graph.nodes:
        if not node.inputs:
            continue
        nodes += 1
        types = tuple(None if v is None else (v.type, v.node.op.name) for v in node.operands)
        key = (node.op, attrs_text(node.attrs), len(dict.fromkeys(node.operands)), types)
        if key not in known:  # layers are alike
            known[key] = _node_cost(node, sizes)
        flops, moved = flops + known[key][0], moved + known[key][1]
    return Cost(nodes, flops, moved, sum(_nbytes(v.type, {}) for v in graph.params.values()))


def _node_cost(node: Node, sizes: Sizes) -> tuple[int, int]:
    """FLOPs and bytes moved. A composite op has the FLOPs of its decomposition, and of a table that it only
    gathers from it reads the rows gathered."""
    if node.op.decompose_fn is None:
        return _flops(node, sizes), _bytes_moved(node, sizes)
    parts, stand_ins = _parts(node)
    moved = sum(_nbytes(v.type, sizes) for v in node.outputs if not v.type.state)
    for leaf in dict.fromkeys(stand_ins):
        readers = parts.users.get(leaf, ())
        if any(r.op.name != "gather" or r.inputs[0] is not leaf for r in readers):
            moved += _nbytes(leaf.type, sizes)
        else:
            moved += sum(_nbytes(r.outputs[0].type, sizes) for r in readers)
    return sum(_flops(part, sizes) for part in parts.nodes if part.inputs), moved


def _parts(node: Node) -> tuple[Graph, list[Value]]:
    """The decomposition of a node over stand-ins for its operands."""
    builder = GraphBuilder(lambda op: op.decompose_fn is not None)
    with emitting(builder):
        leaves = {v: _stand_in(i, v) for i, v in enumerate(dict.fromkeys(node.inputs))}
        result = builder.emit(
            node.op, tuple(None if v is None else leaves[v] for v in node.operands), dict(node.attrs)
        )
    outputs = result if isinstance(result, tuple) else (result,)
    parts = builder.finish("parts", {}, {str(i): v for i, v in enumerate(outputs)})
    return parts, list(leaves.values())


def _count(t: Type, sizes: Sizes) -> int:
    return math.prod(bind_shape(t.shape, sizes))


def _nbytes(t: Type, sizes: Sizes) -> int:
    return t.dtype.nbytes(bind_shape(t.shape, sizes))


def _flops(node: Node, sizes: Sizes) -> int:
    name, out = node.op.name, node.outputs[0].type
    if name in _PER_ELEMENT:
        return _PER_ELEMENT[name] * sum(_count(v.type, sizes) for v in node.outputs)
    if name == "linear":
        return 2 * _count(out, sizes) * bind_shape(node.inputs[1].shape, sizes)[1]
    if name == "matmul":
        return 2 * _count(out, sizes) * bind_shape(node.inputs[0].shape, sizes)[-1]
    if name in ("attention", "cached_attention"):
        keys = bind_shape(node.inputs[1].shape, sizes)[1 if name == "attention" else 2]
        return (4 + 13 // max(1, bind_shape(out.shape, sizes)[-1])) * _count(out, sizes) * keys
    if name == "mean_pool":
        return 2 * _count(node.inputs[0].type, sizes)
    return 0


def _stand_in(index: int, value: Value) -> Value:
    t = value.type
    leaf: Callable[..., Value] = state if t.state else param if value.node.op is param else input_
    try:
        return leaf(key=f"x{index}", dtype=t.dtype, shape=t.shape)
    except GraphError:  # a packed value that is no param yet
        return param(key=f"x{index}", dtype=t.dtype, shape=t.shape)


def _bytes_moved(node: Node, sizes: Sizes) -> int:
    name, out = node.op.name, sum(_nbytes(v.type, sizes) for v in node.outputs)
    if name == "reshape":
        return 0  # the same bytes under another shape
    if name in ("gather", "slice", "select_token", "transpose", "concat"):
        return 2 * out
    if name == "cache_append":
        return 2 * _nbytes(node.inputs[1].type, sizes)
    read = sum(0 if v.node.op.name == "full" else _nbytes(v.type, sizes) for v in dict.fromkeys(node.inputs))
    return read + sum(_nbytes(v.type, sizes) for v in node.outputs if not v.type.state)
