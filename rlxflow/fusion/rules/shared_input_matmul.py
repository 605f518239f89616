"""FuseSharedInputMatMul: the query, key and value projections of one attention in one pass over their input.

x ┬ linear(q) ─ [+ q_bias] ─ q ─ [heads, norm, rope] ───────── ┐
  ├ linear(k) ─ [+ k_bias] ─ k ─ [heads, norm, rope, cache] ── attention
  └ linear(v) ─ [+ v_bias] ─ v ─ [heads, cache] ────────────── ┘

The attention gives the roles; the number of heads, the dtypes and the biases may all differ. The same for
the gate and up projections of a gated feed-forward that no larger op took:

x ┬ linear(gate) ─ [+ gate_bias] ─ gate ─ act ┐
  └ linear(up) ─── [+ up_bias] ─── up ────────┴ mul
"""

from __future__ import annotations

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.roles import ATTENTIONS, as_linear, projection
from rlxflow.fusion.rule import Finder, Proposal, Rule
from rlxflow.ir.values import Node, Value
from rlxflow.ops import activation
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import mul


@fused_op()
def shared_input_linear(
    x: Value,
    q: Value,
    k: Value,
    v: Value,
    q_bias: Value | None = None,
    k_bias: Value | None = None,
    v_bias: Value | None = None,
) -> tuple[Value, Value, Value]:
    """(x · qᵀ + q_bias, x · kᵀ + k_bias, x · vᵀ + v_bias).

    x: [..., K]; q, k, v: [Nq, K], [Nk, K], [Nv, K], each in its own dtype; biases: [Nq], [Nk], [Nv]; results:
    [..., Nq], [..., Nk], [..., Nv].
    """
    return matmul_bias_act(x, q, q_bias), matmul_bias_act(x, k, k_bias), matmul_bias_act(x, v, v_bias)


@fused_op()
def gate_up_linear(
    x: Value, gate: Value, up: Value, gate_bias: Value | None = None, up_bias: Value | None = None
) -> tuple[Value, Value]:
    """(x · gateᵀ + gate_bias, x · upᵀ + up_bias).

    x: [..., K]; gate, up: [N, K], each in its own dtype; biases: [N]; results: [..., N].
    """
    return matmul_bias_act(x, gate, gate_bias), matmul_bias_act(x, up, up_bias)


for _op in (shared_input_linear, gate_up_linear):
    _op.rows(lambda x, *_, **__: x.rank - 1)

_ACTIVATIONS = {activation.gelu, activation.gelu_tanh, activation.quick_gelu, activation.silu}
_ACTIVATIONS |= {activation.relu, activation.relu2, activation.sigmoid}


def _query_key_value(consumer: Node) -> Proposal | str | None:
    return _together([projection(v) for v in consumer.inputs[:3]], "q, k and v")


def _gate_up(consumer: Node) -> Proposal | str | None:
    for gate, up in (consumer.inputs, consumer.inputs[::-1]):
        if gate.node.op in _ACTIVATIONS and as_linear(gate.node.inputs[0]) and as_linear(up):
            return _together([gate.node.inputs[0], up], "gate and up")
    return None


def _together(values: list[Value], names: str) -> Proposal | str | None:
    """The projections of these roles as one op, if they read the same x."""
    found = [as_linear(v) for v in values]
    projections = [f for f in found if f is not None]
    if len(projections) < len(values):
        other = next(v for v, f in zip(values, found, strict=True) if f is None)
        return f"[op] {names} are not all linear: expected linear, found {other.node.op.name}"
    x = projections[0][0]
    if any(p[0] is not x for p in projections):
        return f"[operand] {names} are projections of different values"
    return Proposal((x, *(p[1] for p in projections), *(p[2] for p in projections)), {})


RULE = Rule(
    "fuse-shared-input-matmul",
    shared_input_linear,
    also=(gate_up_linear,),
    finders=(
        Finder(shared_input_linear, ATTENTIONS, _query_key_value),
        Finder(gate_up_linear, (mul,), _gate_up),
    ),
)
