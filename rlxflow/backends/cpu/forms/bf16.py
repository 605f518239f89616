"""bf16 weights: the upper half of an f32."""

from __future__ import annotations

from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.half import HalfForm


def widen(code: Code, words: Value) -> tuple[Value, Value]:
    """The low and the high halves of words as f32; exact."""
    low = code.shl(words, code.fill_int(16))
    high = code.and_(words, code.fill_int(0xFFFF0000))
    return code.bitcast(low, code.vector), code.bitcast(high, code.vector)


FORMS = (HalfForm("bf16", widen),)
