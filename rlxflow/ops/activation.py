"""Activations. Each keeps shape and dtype; names follow Hugging Face's `ACT2FN` where it has one meaning."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.op import Op, op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import want_float
from rlxflow.ops.erf import erf

Activation = Literal["none", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2", "tanh", "sigmoid"]


@op("primitive")
def gelu(x: Value) -> Type:
    """x · Φ(x) = x/2 · (1 + erf(x/√2)), the exact GELU (Hendrycks & Gimpel, arXiv 1606.08415)"""
    want_float("x", x)
    return x.type


@op("primitive")
def gelu_tanh(x: Value) -> Type:
    """x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))); HF `gelu_new`, `gelu_pytorch_tanh`"""
    want_float("x", x)
    return x.type


@op("primitive")
def quick_gelu(x: Value) -> Type:
    """x · σ(1.702 x)"""
    want_float("x", x)
    return x.type


@op("primitive")
def silu(x: Value) -> Type:
    """x · σ(x)"""
    want_float("x", x)
    return x.type


@op("primitive")
def relu(x: Value) -> Type:
    """max(x, 0)"""
    want_float("x", x)
    return x.type


@op("primitive")
def relu2(x: Value) -> Type:
    """max(x, 0)²"""
    want_float("x", x)
    return x.type


@op("primitive")
def sigmoid(x: Value) -> Type:
    """σ(x) = 1 / (1 + e⁻ˣ)"""
    want_float("x", x)
    return x.type


def _sigmoid(x: Array) -> Array:
    # one form for both signs: e^-|x| never overflows
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype, copy=False)


gelu.reference(lambda x: (x * 0.5 * (1 + erf(x * np.sqrt(0.5)))).astype(x.dtype))
gelu_tanh.reference(
    lambda x: (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))).astype(x.dtype)
)
quick_gelu.reference(lambda x: x * _sigmoid(x * x.dtype.type(1.702)))
silu.reference(lambda x: x * _sigmoid(x))
relu.reference(lambda x: np.maximum(x, 0))
relu2.reference(lambda x: np.maximum(x, 0) ** 2)
sigmoid.reference(_sigmoid)
for _op in (gelu, gelu_tanh, quick_gelu, silu, relu, relu2, sigmoid):
    _op.rows(lambda x: x.rank)


def activate(x: Value, activation: Activation) -> Value:
    """Emit an activation by name; `none` emits nothing."""
    from rlxflow.ops.elementwise import tanh

    table: dict[str, Op[[Value], Value]] = {
        "gelu": gelu,
        "gelu_tanh": gelu_tanh,
        "quick_gelu": quick_gelu,
        "silu": silu,
        "relu": relu,
        "relu2": relu2,
        "tanh": tanh,
        "sigmoid": sigmoid,
    }
    return x if activation == "none" else table[activation](x)
