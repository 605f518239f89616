"""Scaled dot-product attention, over the call's own keys and over a cache."""

from __future__ import annotations

import math

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.dims import divide
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import fail, want_dim, want_float, want_integer, want_mask, want_rank, want_shape


@op("primitive")
def attention(
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    bias: Value | None = None,
    sinks: Value | None = None,
    *,
    scale: float,
    causal: bool = False,
    window: int = 0,
    softcap: float = 0.0,
) -> Type:
    """softmax(cap(scale · q·kᵀ) + bias) · v per head; query head h reads key head h·Hkv/H.

    q: [B, S, H, D]; k, v: [B, T, Hkv, D] with Hkv dividing H. mask: integer or bool [B, T], non-zero = the
    key is valid. bias: float [H, S, T], added to the scores. `causal`: query i sees keys ≤ i + T − S.
    `window` w > 0: query i sees only keys j with |i − j| ≤ w; where causal, with i − w < j ≤ i.
    cap(s) = softcap · tanh(s / softcap) where softcap > 0. sinks: float [H], per head one more score that
    every query sees, of a key whose value is zero. A query without any valid key yields zeros.
    Result: [B, S, H, D].
    """
    want_float("k", k)
    for name, x in (("q", q), ("k", k), ("v", v)):
        want_rank(name, x, 4)
    _check_scores(scale, window, softcap)
    _check_heads(q, k.dim(2), k.dim(3), v)
    want_shape("v", v, k.shape)
    want_dim("batch of k", k.dim(0), q.dim(0))
    if mask is not None:
        want_mask("mask", mask, (k.dim(0), k.dim(1)))
    if bias is not None:
        want_float("bias", bias)
        want_shape("bias", bias, (q.dim(2), q.dim(1), k.dim(1)))
    _check_sinks(sinks, q)
    return q.type


def _check_scores(scale: float, window: int, softcap: float) -> None:
    if not math.isfinite(scale):
        raise fail(f"scale is {scale}", "it is usually head_dim ** -0.5")
    if window < 0 or not 0 <= softcap < math.inf:
        raise fail(f"window is {window} and softcap {softcap}", "0 switches either off")


def _check_sinks(sinks: Value | None, q: Value) -> None:
    if sinks is not None:
        want_float("sinks", sinks)
        want_shape("sinks", sinks, (q.dim(-2),))


def _check_heads(q: Value, num_kv_heads: object, head_dim: object, v: Value) -> None:
    for name, x in (("q", q), ("v", v)):
        want_float(name, x)
    want_dim("head_dim of k", head_dim, q.dim(-1))  # type: ignore[arg-type]
    if isinstance(num_kv_heads, int) and divide(q.dim(-2), num_kv_heads) is None:
        raise fail(f"{num_kv_heads} key heads do not divide {q.dim(-2)} query heads")


@attention.reference
def _attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    *,
    scale: float,
    causal: bool,
    window: int,
    softcap: float,
) -> Array:
    num_queries, num_keys = q.shape[1], k.shape[1]
    query_positions = np.arange(num_queries)[:, None] + (num_keys - num_queries if causal else 0)
    allowed = _visible(query_positions, np.arange(num_keys)[None], causal, window)[None]
    if mask is not None:
        allowed = allowed & (mask != 0)[:, None]
    kt, vt = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    allowed = np.broadcast_to(allowed, (len(q), num_queries, num_keys))
    return _attend(q, kt, vt, allowed, bias, sinks, scale, softcap)


@op("primitive", takes_state=True)
def cached_attention(
    q: Value,
    keys: Value,
    values: Value,
    past_len: Value,
    new_len: Value,
    sinks: Value | None = None,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> Type:
    """Causal attention over a cache that already holds this call's keys and values.

    q: [B, S, H, D]; keys, values: state [B, Hkv, C, D]; past_len, new_len: integer [B]. Query s of sequence
    b stands at position past_len[b] + s and sees cache rows up to that position (at most `window` of them
    where window > 0). sinks: float [H], see `attention`. Rows s ≥ new_len[b] are padding and yield zeros.
    Result: [B, S, H, D]. q [B, H, D] is that of the last token alone, at past_len[b] + new_len[b] − 1; then
    the result is [B, H, D].
    """
    want_rank("q", q, 3, 4)
    want_rank("keys", keys, 4)
    _check_scores(scale, window, softcap)
    _check_heads(q, keys.dim(1), keys.dim(3), q)
    want_shape("values", values, keys.shape)
    if not (keys.type.state and values.type.state):
        raise fail("keys and values must be cache states", "append to a cache with cache_append first")
    for name, x in (("past_len", past_len), ("new_len", new_len)):
        want_integer(name, x)
        want_shape(name, x, (q.dim(0),))
    _check_sinks(sinks, q)
    return q.type


@cached_attention.reference
def _cached_attention(
    q: Array,
    keys: Array,
    values: Array,
    past_len: Array,
    new_len: Array,
    sinks: Array | None,
    *,
    scale: float,
    window: int,
    softcap: float,
) -> Array:
    if q.ndim == 3:
        last, some = past_len + np.maximum(new_len, 1) - 1, np.minimum(new_len, 1)
        attrs = {"scale": scale, "window": window, "softcap": softcap}
        return _cached_attention(q[:, None], keys, values, last, some, sinks, **attrs)[:, 0]
    num_queries = q.shape[1]
    used = int((past_len + new_len).max(initial=0))
    positions = past_len[:, None, None] + np.arange(num_queries)[:, None]
    allowed = _visible(positions, np.arange(used), True, window)
    allowed = allowed & (np.arange(num_queries) < new_len[:, None])[..., None]
    k, v = keys[:, :, :used].astype(q.dtype), values[:, :, :used].astype(q.dtype)
    return _attend(q, k, v, allowed, None, sinks, scale, softcap)


def _visible(query: Array, key: Array, causal: bool, window: int) -> Array:
    allowed = key <= query if causal else np.ones(np.broadcast_shapes(query.shape, key.shape), bool)
    if window:
        allowed = allowed & (np.abs(query - key) < window if causal else np.abs(query - key) <= window)
    return allowed


def _attend(
    q: Array,
    k: Array,
    v: Array,
    allowed: Array,
    bias: Array | None,
    sinks: Array | None,
    scale: float,
    softcap: float,
) -> Array:
    """q [B,S,H,D]; k, v [B,Hkv,T,D]; allowed [B,S,T]."""
    batch, num_queries, num_heads, head_dim = q.shape
    groups = num_heads // k.shape[1]
    grouped = q.transpose(0, 2, 1, 3).reshape(batch, k.shape[1], groups * num_queries, head_dim)
    scores = (grouped @ k.transpose(0, 1, 3, 2)).reshape(batch, num_heads, num_queries, k.shape[2])
    scores = scores * q.dtype.type(scale)
    if softcap:
        scores = np.tanh(scores / q.dtype.type(softcap)) * q.dtype.type(softcap)
    if bias is not None:
        scores = scores + bias
    valid = allowed[:, None]
    scores = np.where(valid, scores, q.dtype.type(-np.inf))
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    if sinks is not None:
        sinks = sinks.astype(q.dtype)[:, None, None]
        top = np.maximum(top, sinks)
    top = np.where(np.isneginf(top), 0, top)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks - top)
    weights = (weights / np.where(total == 0, 1, total)).astype(q.dtype, copy=False)
    grouped = weights.reshape(batch, k.shape[1], groups * num_queries, k.shape[2])
    out = (grouped @ v).reshape(batch, num_heads, num_queries, head_dim)
    return np.ascontiguousarray(out.transpose(0, 2, 1, 3))


attention.rows(lambda q, *_, **__: 1)
cached_attention.rows(lambda q, *_, **__: 1)
attention.ignores_invalid("mask")
cached_attention.ignores_invalid("new_len")
