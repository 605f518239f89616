"""Roles: which values of a graph are the query, key and value of one attention.

"Three linears of x" says nothing; what their consumer does with them does.
"""

from __future__ import annotations

from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear

ATTENTIONS = (attention, cached_attention)

# Ops between a projection and its attention → the operand that carries the heads.
_CARRIERS = {"reshape": 0, "transpose": 0, "rms_norm": 0, "l2_normalize": 0, "rope": 0, "cache_append": 1}


def projection(value: Value) -> Value:
    """Back from an operand of attention over heads, norms, rope and cache to where these begin."""
    while True:
        node = value.node
        if node.op.name == "qk_norm_rope":
            carried = node.operands[value.index]
        elif node.op.name in _CARRIERS:
            carried = node.operands[_CARRIERS[node.op.name]]
        else:
            return value
        assert carried is not None
        value = carried


def as_linear(value: Value) -> tuple[Value, Value, Value | None] | None:
    """(x, weight, bias) of a projection with or without bias; None for anything else."""
    node, bias = value.node, None
    if node.op is matmul_bias_act and node.attrs["activation"] == "none":
        x, weight, bias = node.operands
    else:
        if node.op is add:
            a, b = node.inputs
            node, bias = (a.node, b) if a.node.op is linear else (b.node, a)
        if node.op is not linear:
            return None
        x, weight = node.operands
    return None if x is None or weight is None else (x, weight, bias)
