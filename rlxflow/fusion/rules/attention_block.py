"""FuseAttentionBlock: projections, heads, attention and output projection in one op, for few tokens.

x ┬ linear(q) ─ [+ bias] ─ heads ─ [norm] ─ [rope] ──────────── ┐
  ├ linear(k) ─ [+ bias] ─ heads ─ [norm] ─ [rope] ─ [cache] ── attention ─ linear(out) ─ [+ bias] ─ y
  └ linear(v) ─ [+ bias] ─ heads ─────────────────── [cache] ── ┘

Two forms: over the call's own keys (encoders; causal or not, with or without mask), and over a cache, which
the block itself writes (decoders).
"""

from __future__ import annotations

from typing import Any

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.cache import cache_append
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import reshape


@fused_op()
def attention_block(
    x: Value,
    q: Value,
    k: Value,
    v: Value,
    out: Value,
    q_bias: Value | None = None,
    k_bias: Value | None = None,
    v_bias: Value | None = None,
    out_bias: Value | None = None,
    q_norm: Value | None = None,
    k_norm: Value | None = None,
    cos: Value | None = None,
    sin: Value | None = None,
    mask: Value | None = None,
    scores_bias: Value | None = None,
    *,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    scale: float,
    causal: bool = False,
    window: int = 0,
    softcap: float = 0.0,
    eps: float = 0.0,
    unit_offset: bool = False,
    interleaved: bool = False,
) -> Value:
    """attention(heads(x · qᵀ), heads(x · kᵀ), heads(x · vᵀ)) · outᵀ, with biases, norms and rope as given.

    x: [B, S, K]; q: [num_heads · head_dim, K]; k, v: [num_kv_heads · head_dim, K]; out: [N, num_heads ·
    head_dim]; biases: one per row of their weight; q_norm, k_norm: [head_dim], of an RMSNorm with `eps` and
    `unit_offset`; cos, sin: [B, S, R/2], see `rope`; the rest as in `attention`. Result: [B, S, N].
    """
    norm = {"eps": eps, "unit_offset": unit_offset}
    context = attention(
        _placed(_heads(x, q, q_bias, num_heads, head_dim), q_norm, norm, cos, sin, interleaved),
        _placed(_heads(x, k, k_bias, num_kv_heads, head_dim), k_norm, norm, cos, sin, interleaved),
        _heads(x, v, v_bias, num_kv_heads, head_dim),
        mask,
        scores_bias,
        scale=scale,
        causal=causal,
        window=window,
        softcap=softcap,
    )
    return _merged(x, context, out, out_bias, num_heads, head_dim)


@fused_op(takes_state=True)
def cached_attention_block(
    x: Value,
    q: Value,
    k: Value,
    v: Value,
    out: Value,
    keys: Value,
    values: Value,
    past_len: Value,
    new_len: Value,
    q_bias: Value | None = None,
    k_bias: Value | None = None,
    v_bias: Value | None = None,
    out_bias: Value | None = None,
    q_norm: Value | None = None,
    k_norm: Value | None = None,
    cos: Value | None = None,
    sin: Value | None = None,
    *,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    eps: float = 0.0,
    unit_offset: bool = False,
    interleaved: bool = False,
) -> tuple[Value, Value, Value]:
    """(y, keys', values'): `attention_block` over a cache to which this call's keys and values are appended.

    keys, values: state [B, num_kv_heads, C, head_dim], replaced by the second and third result; past_len,
    new_len: integer [B], see `cached_attention`; everything else as in `attention_block`.
    """
    norm = {"eps": eps, "unit_offset": unit_offset}
    query = _placed(_heads(x, q, q_bias, num_heads, head_dim), q_norm, norm, cos, sin, interleaved)
    key = _placed(_heads(x, k, k_bias, num_kv_heads, head_dim), k_norm, norm, cos, sin, interleaved)
    keys = cache_append(keys, key, past_len, new_len)
    values = cache_append(values, _heads(x, v, v_bias, num_kv_heads, head_dim), past_len, new_len)
    context = cached_attention(
        query, keys, values, past_len, new_len, scale=scale, window=window, softcap=softcap
    )
    return _merged(x, context, out, out_bias, num_heads, head_dim), keys, values


def _heads(x: Value, weight: Value, bias: Value | None, num_heads: int, head_dim: int) -> Value:
    """x · weightᵀ + bias as [B, S, num_heads, head_dim]."""
    return reshape(matmul_bias_act(x, weight, bias), shape=(x.dim(0), x.dim(1), num_heads, head_dim))


def _placed(
    heads: Value,
    weight: Value | None,
    norm: dict[str, Any],
    cos: Value | None,
    sin: Value | None,
    interleaved: bool,
) -> Value:
    """Heads normed and rotated, where the block does that."""
    if weight is not None:
        heads = rms_norm(heads, weight, **norm)
    if cos is not None and sin is not None:
        heads = rope(heads, cos, sin, interleaved=interleaved)
    return heads


def _merged(
    x: Value, context: Value, weight: Value, bias: Value | None, num_heads: int, head_dim: int
) -> Value:
    """The heads side by side, through the output projection."""
    merged = reshape(context, shape=(x.dim(0), x.dim(1), num_heads * head_dim))
    return matmul_bias_act(merged, weight, bias)


attention_block.rows(lambda x, *_, **__: 1)
cached_attention_block.rows(lambda x, *_, **__: 1)

RULE = Rule(
    "fuse-attention-block",
    attention_block,
    also=(cached_attention_block,),
    small_input=True,
    together=(("q_bias", "k_bias", "v_bias"), ("q_norm", "k_norm"), ("cos", "sin")),
)
