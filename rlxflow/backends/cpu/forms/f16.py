"""f16 weights (IEEE 754 binary16)."""

from __future__ import annotations

from llvmlite import ir

from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.half import HalfForm

BIAS = 2.0**112  # between the exponents of f16 and f32
INFINITE = 0x0F800000  # where f16's infinity and NaN begin, shifted to f32's place


def low(code: Code, words: Value) -> Value:
    """The f16 in the low half of each word; exact."""
    target = code.owner.target
    if "x86" in target.triple and not target.has("f16c"):
        return _shifted(code, words)
    shorts = code.trunc(words, ir.VectorType(ir.IntType(16), code.lanes))
    return code.fpext(code.bitcast(shorts, ir.VectorType(ir.HalfType(), code.lanes)), code.vector)


def high(code: Code, words: Value) -> Value:
    return low(code, code.lshr(words, code.fill_int(16)))


def _shifted(code: Code, words: Value) -> Value:
    """Bits moved to where f32 has them; a multiplication makes up for the other bias, subnormals too."""
    magnitude = code.shl(code.and_(words, code.fill_int(0x7FFF)), code.fill_int(13))
    scaled = code.bitcast(code.fmul(code.bitcast(magnitude, code.vector), code.fill(BIAS)), code.ints)
    special = code.or_(magnitude, code.fill_int(0x7F800000))
    is_special = code.icmp_unsigned(">=", magnitude, code.fill_int(INFINITE))
    sign = code.shl(code.and_(words, code.fill_int(0x8000)), code.fill_int(16))
    return code.bitcast(code.or_(code.select(is_special, special, scaled), sign), code.vector)


FORMS = (HalfForm("f16", low, high),)
