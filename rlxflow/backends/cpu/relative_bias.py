"""Biases on attention scores that depend on the head and the distance of query and key alone.

Beyond a distance the bias stays the same, so that a short row of numbers per head tells it for sequences of
any length: column d + `half_width` holds the bias at distance d.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value


def buckets_of(bias: Value) -> Node | None:
    """The node that numbers the distances of a bias [H, S, S] = table[buckets]ᵀ; None for any other bias."""
    turned = bias.node
    if turned.op.name != "transpose" or turned.attrs["perm"] != (2, 0, 1):
        return None
    looked_up = turned.inputs[0].node
    if looked_up.op.name != "gather":
        return None
    buckets = looked_up.inputs[1].node
    return buckets if buckets.op.name == "relative_buckets" else None


def table_of(bias: Value) -> Value:
    """The weight [num_buckets, H] that such a bias looks up."""
    return bias.node.inputs[0].node.inputs[0]


def bias_nodes(graph: Graph) -> set[Node]:
    """The nodes of such biases, of which nothing but attentions reads anything."""
    biases = {n.operands[4] for n in graph.nodes if n.op.name == "attention"}
    found: set[Node] = set()
    for bias in biases:
        if bias is not None and buckets_of(bias) is not None:
            found |= {bias.node, bias.node.inputs[0].node, bias.node.inputs[0].node.inputs[1].node}
    for node in reversed(graph.nodes):
        (value, *_) = node.outputs
        only = all(u in found or value in biases for u in graph.users.get(value, ()))
        if node in found and (not only or value in graph.outputs.values()):
            found.remove(node)
    return found


def half_width(reach: int, lanes: int) -> int:
    return reach + lanes


def row_width(reach: int, lanes: int) -> int:
    """Floats per head: a vector may begin at any distance from −half_width to reach."""
    return 2 * half_width(reach, lanes) + lanes


def bias_rows(buckets: Node, table: Array, lanes: int) -> Array:
    """float32 [H, row_width]."""
    reach: int = buckets.attrs["max_distance"]
    reference: Any = buckets.op.reference_fn
    square = reference(**{**buckets.attrs, "size": reach + 1})
    near = np.concatenate([square[-1], square[0, 1:]])  # distances −reach … reach
    start = half_width(reach, lanes)
    distances = np.arange(row_width(reach, lanes)) - start
    ids = near[np.clip(distances, -reach, reach) + reach]
    return np.ascontiguousarray(table[ids].T, np.float32)
