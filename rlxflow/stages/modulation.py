"""DiT-style modulation: shifts, scales and gates made from an embedding of the call (arXiv 2212.09748)."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import silu
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import full
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.shape import reshape, slice_
from rlxflow.weights.plan import WeightSpec


def modulation_weights(prefix: str, hidden_size: int, parts: int) -> tuple[WeightSpec, ...]:
    """`{prefix}.weight` [parts · H, H] and `{prefix}.bias`."""
    rows = parts * hidden_size
    return WeightSpec(f"{prefix}.weight", (rows, hidden_size)), WeightSpec(f"{prefix}.bias", (rows,))


def modulation(e: Emit, embedding: Value, prefix: str, parts: int) -> list[Value]:
    """The parts [B, 1, H] of linear(silu(embedding)); embedding: [B, H]."""
    batch, hidden = embedding.shape
    assert isinstance(hidden, int)
    y = matmul_bias_act(silu(embedding), e.weight(f"{prefix}.weight"), e.weight(f"{prefix}.bias"))
    return [
        reshape(slice_(y, axis=1, start=i * hidden, stop=(i + 1) * hidden), shape=(batch, 1, hidden))
        for i in range(parts)
    ]


def modulated(x: Value, shift: Value, scale: Value, eps: float) -> Value:
    """LN(x) ⊙ (1 + scale) + shift, where the norm has no weights; x: [B, S, H], the others [B, 1, H]."""
    ones = full(value=1.0, dtype=x.dtype, shape=x.shape[-1:])
    unit = full(value=1.0, dtype=x.dtype, shape=())
    return add(mul(layer_norm(x, ones, eps=eps), add(scale, unit)), shift)
