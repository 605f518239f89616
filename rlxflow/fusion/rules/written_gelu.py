"""RecogniseGelu: the exact GELU written out, as exporters do.

x ┬ ─────── · √½ ─ erf ─ + 1 ┐
  └ · ½ ──────────────────── mul ─ y      in any grouping of the three factors
"""

from __future__ import annotations

import math

from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu
from rlxflow.ops.elementwise import add, div, erf, mul
from rlxflow.ops.leaves import full


def _number(value: float, x: Value) -> Value:
    return full(value=value, dtype=x.dtype, shape=())


def _one_plus_erf(x: Value) -> Value:
    return add(erf(mul(x, _number(math.sqrt(0.5), x))), _number(1.0, x))


def _one_plus_erf_of_quotient(x: Value) -> Value:
    return add(erf(div(x, _number(math.sqrt(2.0), x))), _number(1.0, x))


def _halved_first(x: Value) -> Value:
    """x·½ · (1 + erf(x·√½)), torch's decomposition of `gelu`."""
    return mul(mul(x, _number(0.5, x)), _one_plus_erf(x))


def _halved_first_by_quotient(x: Value) -> Value:
    """x·½ · (1 + erf(x/√2)), HF's `GELUActivation`."""
    return mul(mul(x, _number(0.5, x)), _one_plus_erf_of_quotient(x))


def _halved_last(x: Value) -> Value:
    """x · (1 + erf(x/√2)) · ½, torch's ONNX export."""
    return mul(mul(x, _one_plus_erf_of_quotient(x)), _number(0.5, x))


def _halved_inside(x: Value) -> Value:
    """x · (½ · (1 + erf(x/√2)))."""
    return mul(x, mul(_one_plus_erf_of_quotient(x), _number(0.5, x)))


RULE = Rule(
    "recognise-gelu",
    gelu,
    spellings=(_halved_first, _halved_first_by_quotient, _halved_last, _halved_inside),
)
