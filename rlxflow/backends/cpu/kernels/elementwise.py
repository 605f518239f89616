"""Elementwise ops on vectors, by op name. NaN propagates as in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import Code, Value


def maximum(code: Code, a: Value, b: Value) -> Value:
    """The larger one; NaN where either is."""
    return code.select(code.fcmp_unordered("uno", a, a), a, code.larger(a, b))


def minimum(code: Code, a: Value, b: Value) -> Value:
    """The smaller one; NaN where either is."""
    smaller = code.select(code.fcmp_ordered("<", a, b), a, b)
    return code.select(code.fcmp_unordered("uno", a, a), a, smaller)


def _sqrt(code: Code, x: Value) -> Value:
    return code.per_lane("sqrt", x)


def _relu(code: Code, x: Value) -> Value:
    return code.select(code.fcmp_ordered("<", x, code.zero), code.zero, x)


def _relu2(code: Code, x: Value) -> Value:
    y = _relu(code, x)
    return code.fmul(y, y)


def _gelu(code: Code, x: Value) -> Value:
    scaled = math.erf(code, code.fmul(x, code.fill(0.5**0.5)))
    return code.fmul(code.fmul(x, code.fill(0.5)), code.fadd(scaled, code.fill(1.0)))


def _gelu_tanh(code: Code, x: Value) -> Value:
    cube = code.fmul(code.fmul(x, x), x)
    bent = code.fmul(code.fma_(cube, code.fill(0.044715), x), code.fill(0.7978845608028654))
    return code.fmul(code.fmul(x, code.fill(0.5)), code.fadd(math.tanh(code, bent), code.fill(1.0)))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda code, a, b: code.fadd(a, b),
    "sub": lambda code, a, b: code.fsub(a, b),
    "mul": lambda code, a, b: code.fmul(a, b),
    "div": lambda code, a, b: code.fdiv(a, b),
    "maximum": maximum,
    "minimum": minimum,
    "less": lambda code, a, b: code.fcmp_ordered("<", a, b),
    "where": lambda code, condition, a, b: code.select(condition, a, b),
    "neg": lambda code, x: code.fneg(x),
    "exp": math.exp,
    "tanh": math.tanh,
    "sqrt": _sqrt,
    "rsqrt": lambda code, x: code.fdiv(code.fill(1.0), _sqrt(code, x)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": lambda code, x: math.sigmoid(code, code.fmul(x, code.fill(1.702)), times=x),
    "silu": lambda code, x: math.sigmoid(code, x, times=x),
    "relu": _relu,
    "relu2": _relu2,
    "sigmoid": math.sigmoid,
    "broadcast_to": lambda code, x: x,
}
