"""Pairs of bf16 in words of 4 bytes, and their products, where the processor has them."""

from __future__ import annotations

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, Code, Value
from rlxflow.backends.cpu.target import Target

SHORT = ir.IntType(16)


class _Bfloat(ir.Type):  # type: ignore[misc, unused-ignore]
    """LLVM's bfloat, which the binding does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


BFLOAT = _Bfloat()


def has_bfloat_products(target: Target) -> bool:
    return target.name == "avx512" and target.has("avx512bf16")


def neighbours(code: Code, first: Value, second: Value) -> Value:
    """Two neighbouring vectors of f32, rounded to bf16: word j holds elements 2·j and 2·j + 1."""
    pairs, vector = ir.VectorType(BFLOAT, 2 * code.lanes), code.vector
    narrow = code.owner.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", pairs, [vector] * 2)
    return code.bitcast(code.call(narrow, [second, first]), code.ints)


def pairs_of(code: Code, low: Value, high: Value) -> Value:
    """Two vectors of f32, rounded to bf16: word j holds low[j] and high[j]."""
    both = code.bitcast(neighbours(code, low, high), ir.VectorType(SHORT, 2 * code.lanes))
    order = [lane + half for lane in range(code.lanes) for half in (0, code.lanes)]
    places = ir.Constant(ir.VectorType(I32, 2 * code.lanes), order)
    return code.bitcast(code.shuffle_vector(both, both, places), code.ints)


def add_products(code: Code, sums: Value, a: Value, b: Value) -> Value:
    """sums + the products of both bf16 of every word, in f32."""
    pairs, vector = ir.VectorType(BFLOAT, 2 * code.lanes), code.vector
    dot = code.owner.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", vector, [vector, pairs, pairs])
    return code.call(dot, [sums, code.bitcast(a, pairs), code.bitcast(b, pairs)])


def upper_halves(code: Code, low: Value, high: Value) -> Value:
    """Two vectors of f32, cut to bf16: word j holds low[j] and high[j]."""
    low, high = (code.bitcast(x, code.ints) for x in (low, high))
    return code.or_(code.lshr(low, code.fill_int(16)), code.and_(high, code.fill_int(-65536)))
