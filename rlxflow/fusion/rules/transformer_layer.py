"""FuseTransformerLayer: a whole post-norm encoder layer (BERT) in one op, for few tokens.

hidden ┬ attention block ─ add ─ layer_norm ┬ linear ─ act ─ linear ─ add ─ layer_norm ─ y
       └─────────────────── ┘               └───────────────────────── ┘

The layer is found with its query, key and value weights apart; the node holds them as one, [3H, H], which is
a weight-time expression over the checkpoint's own tensors.
"""

from __future__ import annotations

from typing import Any

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.match import Match
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.fusion.rules.attention_block import attention_block
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import matmul_bias_act, residual_layer_norm
from rlxflow.ops.shape import concat, slice_


@fused_op()
def encoder_layer(
    hidden: Value,
    q_w: Value,
    k_w: Value,
    v_w: Value,
    q_b: Value,
    k_b: Value,
    v_b: Value,
    out_w: Value,
    out_b: Value,
    ln1_g: Value,
    ln1_b: Value,
    fc1_w: Value,
    fc1_b: Value,
    fc2_w: Value,
    fc2_b: Value,
    ln2_g: Value,
    ln2_b: Value,
    mask: Value | None = None,
    *,
    num_heads: int,
    head_dim: int,
    scale: float,
    eps1: float,
    eps2: float,
    activation: Activation = "gelu",
) -> Value:
    """`fused_transformer_layer` before packing; [H, H] each: q_w, k_w, v_w; [H] each: q_b, k_b, v_b."""
    attended = attention_block(
        *(hidden, q_w, k_w, v_w, out_w, q_b, k_b, v_b, out_b),
        mask=mask,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        scale=scale,
    )
    h = residual_layer_norm(attended, hidden, ln1_g, ln1_b, eps=eps1)
    inner = matmul_bias_act(h, fc1_w, fc1_b, activation=activation)
    return residual_layer_norm(matmul_bias_act(inner, fc2_w, fc2_b), h, ln2_g, ln2_b, eps=eps2)


@fused_op()
def fused_transformer_layer(
    hidden: Value,
    qkv_w: Value,
    qkv_b: Value,
    out_w: Value,
    out_b: Value,
    ln1_g: Value,
    ln1_b: Value,
    fc1_w: Value,
    fc1_b: Value,
    fc2_w: Value,
    fc2_b: Value,
    ln2_g: Value,
    ln2_b: Value,
    mask: Value | None = None,
    *,
    num_heads: int,
    head_dim: int,
    scale: float,
    eps1: float,
    eps2: float,
    activation: Activation = "gelu",
) -> Value:
    """h = LN₁(x + attention(x)); y = LN₂(h + act(h · fc1ᵀ + b) · fc2ᵀ + b), with A = num_heads · head_dim.

    hidden: [B, S, H]; qkv_w: [3A, H], the rows of q, then k, then v; qkv_b: [3A]; out_w: [H, A]; fc1_w:
    [I, H]; fc2_w: [H, I]; biases as the rows of their weight; ln1_g, ln1_b, ln2_g, ln2_b: [H];
    mask: [B, S], non-zero = the key is valid. Result: [B, S, H].
    """
    rows = num_heads * head_dim
    q_w, k_w, v_w = (slice_(qkv_w, axis=0, start=i * rows, stop=(i + 1) * rows) for i in range(3))
    q_b, k_b, v_b = (slice_(qkv_b, axis=0, start=i * rows, stop=(i + 1) * rows) for i in range(3))
    return encoder_layer(
        *(hidden, q_w, k_w, v_w, q_b, k_b, v_b, out_w, out_b),
        *(ln1_g, ln1_b, fc1_w, fc1_b, fc2_w, fc2_b, ln2_g, ln2_b, mask),
        num_heads=num_heads,
        head_dim=head_dim,
        scale=scale,
        eps1=eps1,
        eps2=eps2,
        activation=activation,
    )


def _packed(
    hidden: Value,
    q_w: Value,
    k_w: Value,
    v_w: Value,
    q_b: Value,
    k_b: Value,
    v_b: Value,
    *others: Any,
    **attrs: Any,
) -> Value:
    """The layer with its query, key and value weights as one."""
    qkv_w, qkv_b = concat(q_w, k_w, v_w, axis=0), concat(q_b, k_b, v_b, axis=0)
    return fused_transformer_layer(hidden, qkv_w, qkv_b, *others, **attrs)


def _may_pack(match: Match, facts: Facts) -> str | None:
    for names in (("q_w", "k_w", "v_w"), ("q_b", "k_b", "v_b")):
        types = [str(v.dtype) for n in names if (v := match.operand(n)) is not None]
        if len(set(types)) > 1:
            return f"{', '.join(names)} are {', '.join(types)}; packing wants one type"
    return None


encoder_layer.rows(lambda hidden, *_, **__: 1)
fused_transformer_layer.rows(lambda hidden, *_, **__: 1)

RULE = Rule(
    "fuse-transformer-layer",
    encoder_layer,
    small_input=True,
    allow=_may_pack,
    emit=_packed,
    emits=fused_transformer_layer,
)
