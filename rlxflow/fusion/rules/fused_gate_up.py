"""FusedGateUp: gate and up projections with their activation in one pass over x; no gate or up tensor.

x ┬ linear(gate) ─ [+ gate_bias] ─ act ┐
  └ linear(up) ─── [+ up_bias] ────────┴ mul ─ y

Where a down projection alone follows and nothing has a bias, the larger gated_mlp takes it.
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.checks import fail, want_shape
from rlxflow.ops.elementwise import mul


@op("fused")
def fused_gate_up(
    x: Value,
    gate: Value,
    up: Value,
    gate_bias: Value | None = None,
    up_bias: Value | None = None,
    *,
    activation: Activation = "silu",
) -> Type:
    """act(x · gateᵀ + gate_bias) ⊙ (x · upᵀ + up_bias).

    x: [..., H]; gate, up: [I, H], each in its own dtype; gate_bias, up_bias: [I], both or none; result:
    [..., I].
    """
    if (gate_bias is None) != (up_bias is None):
        raise fail("gate_bias and up_bias come together", "give both or none")
    y = matmul_bias_act.rule(x, gate, gate_bias)
    matmul_bias_act.rule(x, up, up_bias)
    want_shape("up", up, gate.shape)
    return y


@fused_gate_up.decompose
def _fused_gate_up(
    x: Value,
    gate: Value,
    up: Value,
    gate_bias: Value | None = None,
    up_bias: Value | None = None,
    *,
    activation: Activation = "silu",
) -> Value:
    return mul(matmul_bias_act(x, gate, gate_bias, activation=activation), matmul_bias_act(x, up, up_bias))


fused_gate_up.rows(lambda x, *_, **__: x.rank - 1)

RULE = Rule("fused-gate-up", fused_gate_up, together=(("gate_bias", "up_bias"),))
