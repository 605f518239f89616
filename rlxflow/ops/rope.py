"""Rotary position embedding (arXiv 2104.09864): tables of cos and sin, and the rotation."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array, f32
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import fail, want_float, want_integer, want_rank, want_shape
from rlxflow.ops.rope_frequencies import Scaling, inverse_frequencies


@op("primitive")
def rope_tables(
    positions: Value, lengths: Value, *, rotary_dim: int, theta: float, scaling: Scaling = ()
) -> tuple[Type, Type]:
    """cos(p · f_i) and sin(p · f_i) times the attention factor of the scaling.

    positions: integer [B, S]; lengths: integer [B], the length of each sequence with the tokens of this
    call (only the kinds dynamic and longrope look at it). Both results: f32 [B, S, rotary_dim/2].
    f_i and the scalings: see `inverse_frequencies`.
    """
    want_integer("positions", positions)
    want_integer("lengths", lengths)
    want_rank("positions", positions, 2)
    want_shape("lengths", lengths, (positions.dim(0),))
    inverse_frequencies(rotary_dim, theta, scaling, 1)  # raises where the settings do not fit
    table = Type(f32, (*positions.shape, rotary_dim // 2))
    return table, table


@rope_tables.reference
def _rope_tables(
    positions: Array, lengths: Array, *, rotary_dim: int, theta: float, scaling: Scaling
) -> tuple[Array, Array]:
    cos = np.empty((*positions.shape, rotary_dim // 2), np.float32)
    sin = np.empty_like(cos)
    for row, length in enumerate(lengths):
        frequencies, factor = inverse_frequencies(rotary_dim, theta, scaling, int(length))
        # float32 products, as every implementation forms them: the angle's rounding is part of the model
        angles = positions[row, :, None].astype(np.float32) * frequencies.astype(np.float32)
        cos[row] = np.cos(angles) * np.float32(factor)
        sin[row] = np.sin(angles) * np.float32(factor)
    return cos, sin


@op("primitive")
def rope(x: Value, cos: Value, sin: Value, *, interleaved: bool = False) -> Type:
    """Rotate pairs of the first R channels of each head; the others pass.

    (a, b) → (a·cos − b·sin, b·cos + a·sin), where a pair is channels (i, i + R/2), as in GPT-NeoX and
    Llama, or (2i, 2i + 1) with `interleaved`, as in GPT-J. x: float [B, S, H, D]; cos, sin: [B, S, R/2];
    of one token per sequence: [B, H, D] and [B, R/2].
    """
    want_float("x", x)
    for name, table in (("cos", cos), ("sin", sin)):
        want_float(name, table)
    want_rank("x", x, 3, 4)
    want_rank("cos", cos, x.rank - 1)
    want_shape("cos", cos, (*x.shape[:-2], cos.dim(-1)))
    want_shape("sin", sin, cos.shape)
    half, head_dim = cos.dim(-1), x.dim(-1)
    if isinstance(half, int) and isinstance(head_dim, int) and 2 * half > head_dim:
        raise fail(
            f"tables rotate {2 * half} channels of heads with {head_dim}", "make rotary_dim at most head_dim"
        )
    return x.type


@rope.reference
def _rope(x: Array, cos: Array, sin: Array, *, interleaved: bool) -> Array:
    half = cos.shape[-1]
    cos, sin = (table[..., None, :].astype(x.dtype) for table in (cos, sin))
    y = x.copy()
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if interleaved
        else (slice(0, half), slice(half, 2 * half))
    )
    a, b = x[..., first], x[..., second]
    y[..., first] = a * cos - b * sin
    y[..., second] = b * cos + a * sin
    return y


rope_tables.rows(lambda positions, lengths, *, rotary_dim, theta, scaling: 2)
rope.rows(lambda x, cos, sin, *, interleaved: x.rank - 2)
