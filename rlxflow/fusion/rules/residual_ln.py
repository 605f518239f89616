"""FuseResidualLN: a residual add and the LayerNorm that alone reads it; with a bias on x too.

x ─ [+ x_bias] ─ add(residual) ─ layer_norm ─ y

A bias that follows a linear stays with the linear: there it costs nothing, since fuse-matmul-bias-act adds it
while the sums are still in registers, so the form with a bias is for every other producer of x.
"""

from __future__ import annotations

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.match import Match
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.ir.values import Value
from rlxflow.ops.blocks import residual_layer_norm
from rlxflow.ops.checks import want_shape
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear


def _row_of_x(x: Value, x_bias: Value, *_: Value | None, **__: object) -> None:
    want_shape("x_bias", x_bias, (x.dim(-1),))


@fused_op(_row_of_x)
def biased_residual_layer_norm(
    x: Value, x_bias: Value, residual: Value, weight: Value, bias: Value | None = None, *, eps: float
) -> Value:
    """layer_norm(x + x_bias + residual). x, residual: [..., H] of one shape; x_bias, weight, bias: [H]."""
    return residual_layer_norm(add(x, x_bias), residual, weight, bias, eps=eps)


biased_residual_layer_norm.rows(lambda x, *_, **__: x.rank - 1)


def _leave_bias_to_linear(match: Match, facts: Facts) -> str | None:
    x = match.operand("x")
    biased = match.pattern.op is biased_residual_layer_norm
    return "" if biased and x is not None and x.node.op is linear else None


RULE = Rule(
    "fuse-residual-ln",
    residual_layer_norm,
    also=(biased_residual_layer_norm,),
    allow=_leave_bias_to_linear,
)
