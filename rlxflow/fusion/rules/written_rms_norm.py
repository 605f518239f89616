"""RecogniseRmsNorm: RMSNorm written out, as in HF's `LlamaRMSNorm`.

x ┬ mul(x) ─ mean ─ + eps ─ rsqrt ┐
  └ ───────────────────────────── mul ─ · weight ─ y
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, div, mul, rsqrt, sqrt
from rlxflow.ops.leaves import full
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.reduce import mean


def _shifted_mean_square(x: Value, eps: float) -> Value:
    return add(mean(mul(x, x)), full(value=eps, dtype=x.dtype, shape=()))


def _by_rsqrt(x: Value, weight: Value, *, eps: float) -> Value:
    return mul(mul(x, rsqrt(_shifted_mean_square(x, eps))), weight)


def _by_quotient(x: Value, weight: Value, *, eps: float) -> Value:
    return mul(div(x, sqrt(_shifted_mean_square(x, eps))), weight)


RULE = Rule("recognise-rms-norm", rms_norm, spellings=(_by_rsqrt, _by_quotient))
