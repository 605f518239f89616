"""Block ops: what stages emit under the `direct` policy, each defined by its decomposition.

matmul_bias_act         x ─ linear ─(+ bias)─ act ─ y

gated_mlp               x ┬ linear(gate) ─ act ┐
                          └ linear(up) ────────┴ mul ─ linear(down) ─ y

residual_layer_norm     x ─ add(residual) ─ layer_norm ─ y

residual_rms_norm       x ─ add(residual) ┬ rms_norm ─ y
                                          └ sum
"""

from __future__ import annotations

from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.activation import Activation, activate
from rlxflow.ops.checks import common_dtype, want_dim, want_dtype, want_rank, want_shape, want_weight
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, rms_norm


@op("block")
def matmul_bias_act(
    x: Value, weight: Value, bias: Value | None = None, *, activation: Activation = "none"
) -> Type:
    """act(x · weightᵀ + bias). x: [..., K]; weight: [N, K]; bias: [N]; result: [..., N]."""
    y = linear.rule(x, weight)
    if bias is not None:
        want_shape("bias", bias, (weight.dim(0),))
        common_dtype(x, bias)
    return y


@matmul_bias_act.decompose
def _matmul_bias_act(
    x: Value, weight: Value, bias: Value | None = None, *, activation: Activation = "none"
) -> Value:
    y = linear(x, weight)
    return activate(y if bias is None else add(y, bias), activation)


@op("block")
def gated_mlp(x: Value, gate: Value, up: Value, down: Value, *, activation: Activation = "silu") -> Type:
    """(act(x · gateᵀ) ⊙ (x · upᵀ)) · downᵀ; SwiGLU with silu, GeGLU with gelu (arXiv 2002.05202).

    x: [..., H]; gate, up: [I, H]; down: [H', I]; result: [..., H'].
    """
    hidden = linear.rule(x, gate)
    for name, weight in (("up", up), ("down", down)):
        want_weight(name, weight)
        want_rank(name, weight, 2)
    want_shape("up", up, gate.shape)
    want_dim("input width of down", down.dim(1), gate.dim(0))
    return Type(x.dtype, (*hidden.shape[:-1], down.dim(0)))


@gated_mlp.decompose
def _gated_mlp(x: Value, gate: Value, up: Value, down: Value, *, activation: Activation = "silu") -> Value:
    return linear(mul(activate(linear(x, gate), activation), linear(x, up)), down)


@op("block")
def residual_layer_norm(
    x: Value, residual: Value, weight: Value, bias: Value | None = None, *, eps: float
) -> Type:
    """layer_norm(x + residual). x, residual: [..., H] of one shape; weight, bias: [H]."""
    want_shape("residual", residual, x.shape)
    want_dtype("residual", residual, x.dtype)
    return layer_norm.rule(x, weight, bias, eps=eps)


@residual_layer_norm.decompose
def _residual_layer_norm(
    x: Value, residual: Value, weight: Value, bias: Value | None = None, *, eps: float
) -> Value:
    return layer_norm(add(x, residual), weight, bias, eps=eps)


@op("block")
def residual_rms_norm(
    x: Value, residual: Value, weight: Value, *, eps: float, unit_offset: bool = False
) -> tuple[Type, Type]:
    """(s, rms_norm(s)) with s = x + residual: pre-norm layers need both. Shapes as `residual_layer_norm`."""
    want_shape("residual", residual, x.shape)
    want_dtype("residual", residual, x.dtype)
    return x.type, rms_norm.rule(x, weight, eps=eps, unit_offset=unit_offset)


@residual_rms_norm.decompose
def _residual_rms_norm(
    x: Value, residual: Value, weight: Value, *, eps: float, unit_offset: bool = False
) -> tuple[Value, Value]:
    total = add(x, residual)
    return total, rms_norm(total, weight, eps=eps, unit_offset=unit_offset)
