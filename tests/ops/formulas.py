"""What the ops compute, written a second time: plain loops over Python floats and explicit sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def each(scalar: Callable[..., Any]) -> Callable[..., Array]:
    """A function of scalars applied to every element of broadcast arrays."""

    def apply(*arrays: Array, **_: Any) -> Array:
        spread = np.broadcast_arrays(*arrays)
        flat = [
            scalar(*(a.item() for a in items)) for items in zip(*(s.ravel() for s in spread), strict=True)
        ]
        return np.array(flat).reshape(spread[0].shape)

    return apply


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def gelu(x: float) -> float:
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: float) -> float:
    return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "none": lambda x: x,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "silu": lambda x: x * sigmoid(x),
    "relu": lambda x: x if x > 0 else 0.0,
    "relu2": lambda x: x * x if x > 0 else 0.0,
    "tanh": math.tanh,
    "sigmoid": sigmoid,
}


def linear(x: Array, weight: Array) -> Array:
    return np.einsum("...k,nk->...n", x, weight)


def matmul_bias_act(x: Array, weight: Array, bias: Array | None = None, *, activation: str = "none") -> Array:
    y = linear(x, weight)
    return each(ACTIVATIONS[activation])(y if bias is None else y + bias)


def gated_mlp(x: Array, gate: Array, up: Array, down: Array, *, activation: str = "silu") -> Array:
    return linear(each(ACTIVATIONS[activation])(linear(x, gate)) * linear(x, up), down)


def by_row(vector: Callable[[list[float]], list[float]], x: Array, axis: int = -1) -> Array:
    """A function of lists applied along an axis."""
    moved = np.moveaxis(x, axis, -1)
    rows = [vector(row.tolist()) for row in moved.reshape(-1, moved.shape[-1])]
    return np.moveaxis(np.array(rows).reshape(moved.shape), -1, axis)


def layer_norm(x: Array, weight: Array, bias: Array | None = None, *, eps: float) -> Array:
    def one(row: list[float]) -> list[float]:
        mean = math.fsum(row) / len(row)
        variance = math.fsum((v - mean) ** 2 for v in row) / len(row)
        return [(v - mean) / math.sqrt(variance + eps) for v in row]

    y = by_row(one, x) * weight
    return y if bias is None else y + bias


def rms_norm(x: Array, weight: Array, *, eps: float, unit_offset: bool = False) -> Array:
    def one(row: list[float]) -> list[float]:
        return [v / math.sqrt(math.fsum(u * u for u in row) / len(row) + eps) for v in row]

    return by_row(one, x) * (weight + 1 if unit_offset else weight)


def softmax(x: Array, *, axis: int = -1) -> Array:
    def one(row: list[float]) -> list[float]:
        total = math.fsum(math.exp(v - max(row)) for v in row)
        return [math.exp(v - max(row)) / total for v in row]

    return by_row(one, x, axis)


def l2_normalize(x: Array, *, eps: float = 1e-12) -> Array:
    return by_row(lambda row: [v / max(math.sqrt(math.fsum(u * u for u in row)), eps) for v in row], x)


def mean_pool(x: Array, mask: Array) -> Array:
    rows = []
    for tokens, valid in zip(x, mask, strict=True):
        kept = [t for t, m in zip(tokens, valid, strict=True) if m]
        rows.append(sum(kept) / len(kept) if kept else np.zeros(x.shape[-1]))
    return np.array(rows)


def rope_tables(positions: Array, lengths: Array, *, rotary_dim: int, theta: float, scaling: Any = ()) -> Any:
    """Only the unscaled and the linear kind; the others are compared with goldens."""
    factor = dict(scaling).get("factor", 1.0)
    angles = np.array([
        [[float(p) * theta ** (-2 * i / rotary_dim) / factor for i in range(rotary_dim // 2)] for p in row]
        for row in positions
    ])  # fmt: skip
    return np.cos(angles), np.sin(angles)


def rope(x: Array, cos: Array, sin: Array, *, interleaved: bool = False) -> Array:
    half, y = cos.shape[-1], x.copy()
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
        c, s = cos[..., None, i], sin[..., None, i]
        y[..., a] = x[..., a] * c - x[..., b] * s
        y[..., b] = x[..., b] * c + x[..., a] * s
    return y


def attend(
    q: Array, keys: Array, values: Array, visible: list[int], scores: Callable[[int, float], float],
    sink: float | None = None,
) -> Array:  # fmt: skip
    """One query q [D] over the visible rows of keys and values [T, D]; `sink` is one more score."""
    if not visible:
        return np.zeros_like(q)
    s = [scores(t, math.fsum(a * b for a, b in zip(q, keys[t], strict=True))) for t in visible]
    s += [] if sink is None else [sink]
    e = [math.exp(v - max(s)) for v in s]
    return np.sum([w / math.fsum(e) * values[t] for w, t in zip(e, visible, strict=False)], axis=0)


def capped(score: float, softcap: float) -> float:
    return softcap * math.tanh(score / softcap) if softcap else score


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, bias: Array | None = None,
    sinks: Array | None = None, *, scale: float, causal: bool = False, window: int = 0, softcap: float = 0.0,
) -> Array:  # fmt: skip
    batch, num_queries, num_heads, _ = q.shape
    num_keys, groups = k.shape[1], num_heads // k.shape[2]
    out = np.zeros_like(q)
    for b in range(batch):
        for h in range(num_heads):
            for i in range(num_queries):
                at = i + num_keys - num_queries if causal else i
                visible = [
                    j for j in range(num_keys)
                    if (mask is None or mask[b, j])
                    and not (causal and j > at)
                    and not (window and (at - j >= window if causal else abs(at - j) > window))
                ]  # fmt: skip

                def score(j: int, dot: float, h: int = h, i: int = i) -> float:
                    return capped(scale * dot, softcap) + (0.0 if bias is None else float(bias[h, i, j]))

                own = None if sinks is None else float(sinks[h])
                out[b, i, h] = attend(
                    q[b, i, h], k[b, :, h // groups], v[b, :, h // groups], visible, score, own
                )
    return out


def cached_attention(
    q: Array, keys: Array, values: Array, past_len: Array, new_len: Array,
    sinks: Array | None = None, *, scale: float, window: int = 0, softcap: float = 0.0,
) -> Array:  # fmt: skip
    if q.ndim == 3:  # of the last token
        rows, attrs = np.repeat(q[:, None], max(new_len), 1), {"scale": scale, "window": window}
        found = cached_attention(rows, keys, values, past_len, new_len, sinks, softcap=softcap, **attrs)
        return found[np.arange(len(q)), np.maximum(new_len - 1, 0)]
    out, groups = np.zeros_like(q), q.shape[2] // keys.shape[1]
    for b, (past, new) in enumerate(zip(past_len, new_len, strict=True)):
        for s in range(int(new)):
            at = int(past) + s
            visible = [j for j in range(at + 1) if not window or at - j < window]
            for h in range(q.shape[2]):
                out[b, s, h] = attend(
                    q[b, s, h], keys[b, h // groups], values[b, h // groups], visible,
                    lambda _, dot: capped(scale * dot, softcap), None if sinks is None else float(sinks[h]),
                )  # fmt: skip
    return out


def gated_delta_rule(
    q: Array, k: Array, v: Array, g: Array, beta: Array, state: Array, new_len: Array, *, scale: float
) -> tuple[Array, Array]:
    y, after = np.zeros_like(v), state.copy()
    for b in range(len(q)):
        for h in range(q.shape[2]):
            for t in range(int(new_len[b])):
                s, key = after[b, h] * math.exp(g[b, t, h]), k[b, t, h]
                for j in range(v.shape[3]):
                    recalled = sum(s[i, j] * key[i] for i in range(len(key)))
                    s[:, j] += key * (beta[b, t, h] * (v[b, t, h, j] - recalled))
                y[b, t, h] = scale * (q[b, t, h] @ s)
                after[b, h] = s
    return y, after


def buckets(*, size: int, num_buckets: int, max_distance: int) -> Array:
    """The T5 paper's words: half for each sign; small distances alone, larger ones on a log scale."""
    half, exact = num_buckets // 2, num_buckets // 4

    def bucket(distance: int) -> int:
        n = abs(distance)
        if n >= exact:  # the largest k with exact · (max / exact) ** (k / (half − exact)) ≤ n
            steps = range(half - exact)
            n = exact + max(
                k for k in steps if exact * (max_distance / exact) ** (k / (half - exact)) <= n + 1e-9
            )
        return n + half * (distance > 0)

    return np.array([[bucket(j - i) for j in range(size)] for i in range(size)])


def resize_grid(x: Array, *, old: tuple[int, int], new: tuple[int, int]) -> Array:
    """Keys' cubic convolution with a = -3/4, at the centres of the new cells; the edge goes on outside."""

    def kernel(t: float, a: float = -0.75) -> float:
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    def at(p: int, q: int) -> Array:
        r, c = ((i + 0.5) * a / b - 0.5 for i, a, b in zip((p, q), old, new, strict=True))
        total = np.zeros(x.shape[1])
        for i in range(-4, old[0] + 4):
            for j in range(-4, old[1] + 4):
                row, column = min(max(i, 0), old[0] - 1), min(max(j, 0), old[1] - 1)
                total = total + kernel(r - i) * kernel(c - j) * x[row * old[1] + column]
        return total

    return np.array([at(p, q) for p in range(new[0]) for q in range(new[1])])


def cache_append(cache: Array, new: Array, past_len: Array, new_len: Array) -> Array:
    after = cache.copy()
    for b in range(len(cache)):
        for s in range(int(new_len[b])):
            for h in range(cache.shape[1]):
                after[b, h, int(past_len[b]) + s] = new[b, s, h]
    return after
