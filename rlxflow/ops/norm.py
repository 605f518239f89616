"""Normalisations and softmax, over the last axis unless an axis is named."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import axis_of, want_at_least_rank, want_float, want_shape, want_weight


@op("primitive")
def layer_norm(x: Value, weight: Value, bias: Value | None = None, *, eps: float) -> Type:
    """(x − mean) / √(variance + eps) · weight + bias, with the biased variance (`torch.nn.LayerNorm`).

    x: float [..., H]; weight, bias: [H].
    """
    want_float("x", x)
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None:
            want_weight(name, v)
            want_shape(name, v, (x.dim(-1),))
    return x.type


@layer_norm.reference
def _layer_norm(x: Array, weight: Array, bias: Array | None, *, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(eps)) * weight
    return y if bias is None else y + bias


@op("primitive")
def rms_norm(x: Value, weight: Value, *, eps: float, unit_offset: bool = False) -> Type:
    """x / √(mean(x²) + eps) · weight, or · (1 + weight) with `unit_offset`.

    arXiv 1910.07467; HF `LlamaRMSNorm`. x: float [..., H]; weight: [H].
    """
    want_float("x", x)
    want_weight("weight", weight)
    want_shape("weight", weight, (x.dim(-1),))
    return x.type


@rms_norm.reference
def _rms_norm(x: Array, weight: Array, *, eps: float, unit_offset: bool) -> Array:
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(eps))
    return x * scale * (weight + x.dtype.type(1) if unit_offset else weight)


@op("primitive")
def softmax(x: Value, *, axis: int = -1) -> Type:
    """exp(x − max x) / Σ exp(x − max x) along an axis."""
    want_float("x", x)
    axis_of(axis, x.rank)
    return x.type


@softmax.reference
def _softmax(x: Array, *, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@op("primitive")
def l2_normalize(x: Value, *, eps: float = 1e-12) -> Type:
    """x / max(‖x‖₂, eps) over the last axis (`torch.nn.functional.normalize`)."""
    want_float("x", x)
    want_at_least_rank("x", x, 1)
    return x.type


@l2_normalize.reference
def _l2_normalize(x: Array, *, eps: float) -> Array:
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), x.dtype.type(eps))


layer_norm.rows(lambda x, weight, bias, *, eps: x.rank - 1)
rms_norm.rows(lambda x, weight, *, eps, unit_offset: x.rank - 1)
softmax.rows(lambda x, *, axis: axis % x.rank)
l2_normalize.rows(lambda x, *, eps: x.rank - 1)
