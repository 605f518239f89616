"""FusedGateUp: gate and up projections with their activation in one pass over x; no gate or up tensor.

x ┬ linear(gate) ─ [+ gate_bias] ─ act ┐
  └ linear(up) ─── [+ up_bias] ────────┴ mul ─ y

Where a down projection alone follows and nothing has a bias, the larger gated_mlp takes it.
"""

from __future__ import annotations

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.checks import want_shape
from rlxflow.ops.elementwise import mul


def _same_width(x: Value, gate: Value, up: Value, *_: Value | None, **__: object) -> None:
    want_shape("up", up, gate.shape)


@fused_op(_same_width)
def fused_gate_up(
    x: Value,
    gate: Value,
    up: Value,
    gate_bias: Value | None = None,
    up_bias: Value | None = None,
    *,
    activation: Activation = "silu",
) -> Value:
    """act(x · gateᵀ + gate_bias) ⊙ (x · upᵀ + up_bias).

    x: [..., H]; gate, up: [I, H], each in its own dtype; gate_bias, up_bias: [I]; result: [..., I].
    """
    return mul(matmul_bias_act(x, gate, gate_bias, activation=activation), matmul_bias_act(x, up, up_bias))


fused_gate_up.rows(lambda x, *_, **__: x.rank - 1)

RULE = Rule("fused-gate-up", fused_gate_up, together=(("gate_bias", "up_bias"),))
