"""Clean-up passes: each takes a graph and gives an equal, simpler one.

A pass may leave a line in `notes` that says what it skipped and why. Dead nodes need no pass: a graph holds
none, since every rebuild drops them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlxflow.dtypes import bf16, f16, f32
from rlxflow.fusion.concat_parts import parts_between
from rlxflow.fusion.match import Key, node_key
from rlxflow.fusion.rewriting import rewritten
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.shape import concat, reshape, transpose

Operands = tuple[Value | None, ...]


def remove_no_ops(graph: Graph, notes: list[str]) -> Graph:
    """Drop what moves or changes nothing.

    reshape, transpose, cast and broadcast to what a value already is, reshapes and transposes in a row, whole
    slices, slices of a concatenation where its parts meet, x + 0, x − 0, x · 1 and x / 1 (of which x + 0 may
    turn −0 into 0).
    """
    return rewritten(graph, _simpler)


def _simpler(node: Node, operands: Operands) -> Value | None:
    name, x = node.op.name, operands[0] if operands else None
    if x is None:
        return None
    if name == "slice":
        return _slice(node, x)
    if name == "transpose":
        return _transpose(node, x)
    if name == "reshape" and x.type != node.outputs[0].type:
        before = x.node.operands[0] if x.node.op is reshape else None
        return None if before is None else _reshape(before, node)
    same = name in ("reshape", "broadcast_to", "cast") and x.type == node.outputs[0].type
    if same or (name == "concat" and len(operands) == 1):
        return x
    return _neutral(node, operands)


def _reshape(x: Value, node: Node) -> Value:
    return x if x.shape == node.attrs["shape"] else reshape(x, shape=node.attrs["shape"])


def _transpose(node: Node, x: Value) -> Value | None:
    perm: Sequence[int] = node.attrs["perm"]
    inner = x.node.operands[0] if x.node.op is transpose else None
    if inner is not None:
        perm, x = [x.node.attrs["perm"][p] for p in perm], inner
    if list(perm) == list(range(x.rank)):
        return x
    return None if inner is None else transpose(x, perm=tuple(perm))


def _slice(node: Node, x: Value) -> Value | None:
    axis, start, stop = node.attrs["axis"] % x.rank, node.attrs["start"], node.attrs["stop"]
    if start == 0 and stop == x.dim(axis):
        return x
    if x.node.op is not concat or x.node.attrs["axis"] % x.rank != axis:
        return None
    parts = parts_between(x.node.inputs, axis, start, stop)
    if parts is None:
        return None
    return parts[0] if len(parts) == 1 else concat(*parts, axis=axis)


_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


def _neutral(node: Node, operands: Operands) -> Value | None:
    """x where the other operand is `full` of the neutral element."""
    if node.op.name not in _NEUTRAL:
        return None
    a, b = operands
    for x, other in ((a, b), (b, a))[: 2 if node.op.commutative else 1]:
        if x is not None and x.type == node.outputs[0].type and fill(other) == _NEUTRAL[node.op.name]:
            return x
    return None


def fill(value: Value | None) -> float | None:
    """The number that a `full` holds; None for any other value."""
    return value.node.attrs["value"] if value is not None and value.node.op is full else None


def merge_equal(graph: Graph, notes: list[str]) -> Graph:
    """One node for equal computations, a + b and b + a included."""
    seen: dict[Key, Operands] = {}

    def merge(node: Node, operands: Operands) -> Value | None:
        if not node.op.commutative:  # the builder merges all others
            return None
        first = seen.setdefault(node_key(node.op, operands, node.attrs), operands)
        return None if first == operands else node.op(*first, **node.attrs)

    return rewritten(graph, merge)


def fold_unit_offset(graph: Graph, notes: list[str]) -> Graph:
    """rms_norm with (1 + w): the sum becomes part of the weight, in f32, as the op itself forms it."""

    def fold(node: Node, operands: Operands) -> Value | None:
        x, weight = operands if node.op is rms_norm else (None, None)
        if x is None or weight is None or not node.attrs["unit_offset"]:
            return None
        if weight.node.op.name != "param" or weight.dtype not in (f32, f16, bf16):
            return None
        return rms_norm(x, add(weight, full(value=1.0, dtype=f32, shape=())), eps=node.attrs["eps"])

    return rewritten(graph, fold)


def fold_scale(graph: Graph, notes: list[str]) -> Graph:
    """c · linear(x, w) becomes linear(x, c · w) where that changes no number: c is a power of two.

    Any other factor would round each product elsewhere. f16 weights and packed ones are left, since scaling
    them may underflow or is not possible; so are weights with other readers, which would be held twice.
    """

    def fold(node: Node, operands: Operands) -> Value | None:
        if node.op is not mul:
            return None
        for place in (0, 1):
            product, factor = operands[place], fill(operands[1 - place])
            if product is None or factor is None or product.node.op is not linear:
                continue
            reason = _no_scale(graph, node.operands[place], factor, node)
            if reason is None:
                x, weight = product.node.inputs
                scale = full(value=factor, dtype=weight.dtype, shape=())
                return linear(x, mul(weight, scale))
            notes.append(f"scale {factor:g} not folded: {reason}")
        return None

    return rewritten(graph, fold)


def _no_scale(graph: Graph, product: Value | None, factor: float, node: Node) -> str | None:
    assert product is not None
    weight = product.node.inputs[1]
    if product.type != node.outputs[0].type:
        return "it broadcasts the product"
    if weight.node.op.name != "param" or weight.dtype not in (f32, bf16):
        return f"the weight is {weight.dtype}" if weight.node.op.name == "param" else "the weight is computed"
    if abs(math.frexp(factor)[0]) != 0.5 or not 2.0**-20 <= abs(factor) <= 2.0**20:
        return "it is not a small power of two, and would round other numbers"
    if len(graph.users[product]) > 1 or product in graph.outputs.values():
        return "the product has other readers"
    return "the weight has other readers" if len(graph.users[weight]) > 1 else None
