"""bf16 weights: the upper half of an f32; times x as it is, or times x in bf16."""

from __future__ import annotations

from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.half import BLOCK, HalfForm, PairForm
from rlxflow.backends.cpu.quantised import Bf16Pairs


def low(code: Code, words: Value) -> Value:
    return code.bitcast(code.shl(words, code.fill_int(16)), code.vector)


def high(code: Code, words: Value) -> Value:
    return code.bitcast(code.and_(words, code.fill_int(0xFFFF0000)), code.vector)


FORMS = (HalfForm("bf16", low, high), PairForm("bf16.pairs", low, high, Bf16Pairs(BLOCK)))
