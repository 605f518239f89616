"""The gated delta rule (arXiv 2412.06464; HF `Qwen3NextGatedDeltaNet`): a linear recurrence over tokens."""

from __future__ import annotations

import math

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import fail, want_float, want_integer, want_rank, want_shape


@op("primitive", takes_state=True)
def gated_delta_rule(
    q: Value, k: Value, v: Value, g: Value, beta: Value, state: Value, new_len: Value, *, scale: float
) -> tuple[Type, Type]:
    """One pass of S ← e^g · S; S ← S + k · (beta · (v − Sᵀk))ᵀ; y = scale · Sᵀq over each sequence's tokens.

    q, k: float [B, S, H, K]; v: [B, S, H, V]; g, beta: [B, S, H]; state: [B, H, K, V], S before the call;
    new_len: integer [B], the tokens of each sequence; later ones are padding, yield zeros and leave S alone.
    Results: y [B, S, H, V], and the next version of the state.
    """
    for name, x, rank in (("q", q, 4), ("k", k, 4), ("v", v, 4), ("g", g, 3), ("beta", beta, 3)):
        want_float(name, x)
        want_rank(name, x, rank)
    want_shape("k", k, q.shape)
    want_shape("v", v, (*q.shape[:3], v.dim(3)))
    for name, x in (("g", g), ("beta", beta)):
        want_shape(name, x, q.shape[:3])
    if not state.type.state:
        raise fail("state is not a state", "declare it with a state of the flow")
    want_shape("state", state, (q.dim(0), q.dim(2), q.dim(3), v.dim(3)))
    want_integer("new_len", new_len)
    want_shape("new_len", new_len, (q.dim(0),))
    if not math.isfinite(scale):
        raise fail(f"scale is {scale}", "it is usually head_dim ** -0.5")
    return v.type, state.type


@gated_delta_rule.reference
def _gated_delta_rule(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    state: Array,
    new_len: Array,
    *,
    scale: float,
) -> tuple[Array, Array]:
    y = np.zeros_like(v)
    for row, count in enumerate(new_len):
        s = state[row].astype(q.dtype)  # [H, K, V]
        for t in range(count):
            s = s * np.exp(g[row, t])[:, None, None]
            found = (s * k[row, t][..., None]).sum(1)
            change = (v[row, t] - found) * beta[row, t][:, None]
            s = s + k[row, t][..., None] * change[:, None]
            y[row, t] = (s * (q[row, t] * q.dtype.type(scale))[..., None]).sum(1)
        state[row] = s  # in place: the verifier guarantees that nobody reads the old version
    return y, state


gated_delta_rule.rows(lambda q, *_, **__: 1)
gated_delta_rule.ignores_invalid("new_len")
