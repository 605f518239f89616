"""Sinking the choice of the last token: select_token(f(x), i) → f(select_token(x, i)).

What only the last token of each sequence needs is computed for that token alone: the head, the last norm,
the last feed-forward, and of the last attention over a cache the query. Where another output needs f(x) of
all tokens, f is computed twice, once for each: most calls ask for one of them.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from rlxflow.errors import GraphError
from rlxflow.fusion.rewriting import renamed
from rlxflow.fusion.simplify import fill
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import Sym
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ops.attention import cached_attention
from rlxflow.ops.checks import broadcast_rows
from rlxflow.ops.elementwise import maximum, sub
from rlxflow.ops.leaves import input_, param
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.ops.shape import reshape, select_token

ALWAYS = 1  # the bit of what every call needs, its caches


def sink_last_token(graph: Graph, notes: list[str]) -> Graph:
    """Compute on one token what is read of one token only."""
    chosen = _chosen(graph)
    first = _ancestors(graph, {index.node for index in chosen.values()})
    if not chosen or first & chosen.keys():  # an index that is itself computed from chosen tokens
        return graph
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    alone: dict[Value, Value] = {}  # on one token
    order = [n for n in graph.nodes if n in first] + [n for n in graph.nodes if n not in first]
    with emitting(builder):
        for node in order:
            with builder.scope(*graph.stages.get(node, ())):
                if node in chosen:
                    outputs = _on_one_token(builder, node, moved, alone, moved[chosen[node]])
                    alone.update(zip(node.outputs, outputs, strict=True))
                if node.op is select_token and node.inputs[0] in alone:
                    outputs = (alone[node.inputs[0]],)
                else:
                    operands = tuple(None if v is None else moved[v] for v in node.operands)
                    outputs = builder.node(node.op, operands, node.attrs).outputs
            moved.update(zip(node.outputs, outputs, strict=True))
    return renamed(graph, builder, moved)


def _chosen(graph: Graph) -> dict[Node, Value]:
    """Node → the one index by which its outputs are read. No call has to run such a node for all tokens too,
    but norms of what is picked anyway: they cost what picking their result would."""
    asked = {v: ALWAYS for s in graph.states for v in (s.before, s.after)}
    for i, v in enumerate(graph.outputs.values(), 1):
        asked[v] = asked.get(v, 0) | 1 << i
    chosen: dict[Node, Value] = {}
    needs: dict[Node, tuple[int, int]] = {}  # which outputs, bit by bit, need all its tokens, and which one
    for node in reversed(graph.nodes):
        whole, picked = 0, dict[Value, int]()
        for v in node.outputs:
            whole |= asked.get(v, 0)
            for user in graph.users.get(v, ()):
                (of_all, of_one), index = needs[user], _index_of(user, v, chosen)
                whole |= of_all if index else of_all | of_one
                if index:
                    picked[index] = picked.get(index, 0) | of_one
        index, one = next(iter(picked.items())) if len(picked) == 1 else (None, 0)
        apart = not whole & (one | ALWAYS) or _is_norm_of_picked(graph, node, index, chosen)
        if index and apart and _runs_on_one(node, index):
            chosen[node], needs[node] = index, (whole, one)
        else:
            whole = reduce(or_, picked.values(), whole)
            needs[node] = (0, whole) if node.op is select_token else (whole, 0)
    return chosen


def _is_norm_of_picked(graph: Graph, node: Node, index: Value | None, chosen: dict[Node, Value]) -> bool:
    """Whether others read by the index what a norm is made of."""
    if node.op not in (rms_norm, layer_norm):
        return False
    x = node.inputs[0]
    return any(_index_of(user, x, chosen) is index for user in graph.users[x] if user is not node)


def _runs_on_one(node: Node, index: Value) -> bool:
    """Whether the token at an index is computed from that of the operands: attention sees all keys, whose
    last one is at the position of its query where that is the last token."""
    if node.op is cached_attention:
        return _is_last(index, node.inputs[4])
    return keeps_tokens(node)


def _is_last(index: Value, new_len: Value) -> bool:
    """Whether an index is max(new_len − 1, 0)."""
    if index.node.op is not maximum:
        return False
    number = next((v for v in index.node.inputs if fill(v) != 0.0), index)
    return number.node.op is sub and number.node.inputs[0] is new_len and fill(number.node.inputs[1]) == 1.0


def _ancestors(graph: Graph, nodes: set[Node]) -> set[Node]:
    """The nodes and all that they are computed from."""
    for node in reversed(graph.nodes):
        if node in nodes:
            nodes.update(v.node for v in node.inputs)
    return nodes


def _index_of(user: Node, value: Value, chosen: dict[Node, Value]) -> Value | None:
    if user.op is select_token and user.inputs[0] is value and user.inputs[1] is not value:
        return user.inputs[1]
    index = chosen.get(user)
    return index if index is not None and _has_tokens(value, user) else None


def _has_tokens(value: Value, node: Node) -> bool:
    """Whether an operand has the two leading axes (batch, tokens) of the node's result."""
    return value.rank >= 2 and value.shape[:2] == node.outputs[0].shape[:2]


def keeps_tokens(node: Node) -> bool:
    """Whether token (b, s) of every result depends on token (b, s) of the operands alone.

    Told by the op's rows fact, or by the decomposition of an op that has none; the op must take operands of
    one token too. The token axis must be symbolic: a fixed size could be mistaken for one of a weight.
    """
    results = [v.type for v in node.outputs]
    if any(t.rank < 2 or t.state or not isinstance(t.shape[1], Sym) for t in results):
        return False
    if any(t.shape[:2] != results[0].shape[:2] for t in results) or not _takes_one_token(node):
        return False
    if node.op.rows_fn is None:
        return node.op.decompose_fn is not None and _parts_keep_tokens(node)
    beside = [v for v in node.inputs if not _has_tokens(v, node)]
    if node.op.rows_fn(*node.operands, **node.attrs) < 2 or len(beside) == len(node.inputs):
        return False
    if node.op.rows_fn is broadcast_rows:
        return all(v.rank <= results[0].rank - 2 for v in beside)
    return all(isinstance(d, int) for v in beside for d in v.shape)


def _takes_one_token(node: Node) -> bool:
    operands = tuple(
        Value(v.node, v.index, _one_token(v.type)) if v is not None and _has_tokens(v, node) else v
        for v in node.operands
    )
    try:
        inferred = node.op.infer(operands, _attrs(node))
    except GraphError:
        return False
    return list(inferred) == [_one_token(v.type) for v in node.outputs]


def _attrs(node: Node) -> dict[str, Any]:
    """The attributes for one token: the shape of a reshape loses the token axis."""
    if node.op is not reshape:
        return dict(node.attrs)
    shape = node.attrs["shape"]
    return {"shape": (shape[0], *shape[2:])}


def _one_token(t: Type) -> Type:
    return Type(t.dtype, (t.shape[0], *t.shape[2:]))


def _parts_keep_tokens(node: Node) -> bool:
    """Expand a node over stand-ins for its operands and look at each op that a token reaches."""
    if any(v.type.state for v in node.inputs):
        return False
    builder = GraphBuilder(lambda op: op.decompose_fn is not None)
    with emitting(builder):
        stand_ins = {v: _stand_in(f"x{i}", v.type) for i, v in enumerate(node.inputs)}
        operands = tuple(None if v is None else stand_ins[v] for v in node.operands)
        result = builder.emit(node.op, operands, dict(node.attrs))
    outputs = result if isinstance(result, tuple) else (result,)
    parts = builder.finish("parts", {}, {str(i): v for i, v in enumerate(outputs)}).nodes
    tokens = {stand_ins[v] for v in node.inputs if _has_tokens(v, node)}
    for part in parts:
        if tokens.intersection(part.inputs):
            if not keeps_tokens(part):
                return False
            tokens.update(part.outputs)
    return tokens.issuperset(outputs)


def _stand_in(key: str, t: Type) -> Value:
    """A weight where all sizes are known, else an input."""
    leaf = param if all(isinstance(d, int) for d in t.shape) else input_
    return leaf(key=key, dtype=t.dtype, shape=t.shape)


def _on_one_token(
    builder: GraphBuilder, node: Node, moved: dict[Value, Value], alone: dict[Value, Value], index: Value
) -> tuple[Value, ...]:
    """The node's outputs at an index: [B, ...] instead of [B, S, ...]."""
    operands: list[Value | None] = []
    for v in node.operands:
        if v is None or not _has_tokens(v, node):
            operands.append(None if v is None else moved[v])
        else:
            operands.append(alone[v] if v in alone else select_token(moved[v], index))
    return builder.node(node.op, tuple(operands), _attrs(node)).outputs
