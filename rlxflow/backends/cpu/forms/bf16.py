"""bf16 weights: the upper half of an f32."""

from __future__ import annotations

from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.half import HalfForm


def low(code: Code, words: Value) -> Value:
    return code.bitcast(code.shl(words, code.fill_int(16)), code.vector)


def high(code: Code, words: Value) -> Value:
    return code.bitcast(code.and_(words, code.fill_int(0xFFFF0000)), code.vector)


FORMS = (HalfForm("bf16", low, high),)
