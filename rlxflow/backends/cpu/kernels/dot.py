"""Products of four neighbouring bytes of each lane, or of its two halves, summed into i32."""

from __future__ import annotations

from llvmlite import ir

from rlxflow.backends.cpu.code import Code, Value

I16 = ir.IntType(16)
_X86_BITS = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


def dot4(code: Code, sums: Value, unsigned: Value, signed: Value) -> Value:
    """sums + Σ u·s over the 4 bytes of each i32 lane: u in 0 … 255, s in -128 … 127; exact."""
    target, kind = code.owner.target, code.ints
    if target.has("avx512vnni" if code.lanes == 16 else "avxvnni"):
        dot = code.owner.intrinsic(f"llvm.x86.avx512.vpdpbusd.{32 * code.lanes}", kind, [kind] * 3)
        return code.call(dot, [sums, unsigned, signed])
    if "x86" not in target.triple:
        return _widened(code, sums, unsigned, signed)
    shorts = ir.VectorType(I16, 2 * code.lanes)
    u, s = code.bitcast(unsigned, shorts), code.bitcast(signed, shorts)
    eight = _splat16(shorts, 8)
    pairs = (
        (code.and_(u, _splat16(shorts, 255)), code.ashr(code.shl(s, eight), eight)),
        (code.lshr(u, eight), code.ashr(s, eight)),
    )
    multiply = code.owner.intrinsic(f"llvm.x86.{_X86_BITS[code.lanes]}", kind, [shorts, shorts])
    for a, b in pairs:
        sums = code.add(sums, code.call(multiply, [a, b]))
    return sums


def dot2(code: Code, sums: Value, a: Value, b: Value) -> Value:
    """sums + Σ a·b over the 2 i16 of each i32 lane; exact where that fits."""
    target, kind = code.owner.target, code.ints
    if "x86" in target.triple:
        shorts = ir.VectorType(I16, 2 * code.lanes)
        multiply = code.owner.intrinsic(f"llvm.x86.{_X86_BITS[code.lanes]}", kind, [shorts, shorts])
        return code.add(sums, code.call(multiply, [code.bitcast(a, shorts), code.bitcast(b, shorts)]))
    sixteen = code.fill_int(16)
    for x, y in ((code.shl(a, sixteen), code.shl(b, sixteen)), (a, b)):
        sums = code.add(sums, code.mul(code.ashr(x, sixteen), code.ashr(y, sixteen)))
    return sums


def shifted(code: Code, value: Value, count: Value) -> Value:
    """value · 2^count per lane, by the instruction that takes counts from memory, where there is one."""
    if code.lanes < 16:
        return code.shl(value, count)
    shift = code.owner.intrinsic("llvm.x86.avx512.psllv.d.512", code.ints, [code.ints] * 2)
    return code.call(shift, [value, count])


def _splat16(kind: ir.VectorType, x: int) -> Value:
    return ir.Constant(kind, [x] * kind.count)


def _widened(code: Code, sums: Value, unsigned: Value, signed: Value) -> Value:
    """The same in plain arithmetic on i32."""
    for i in range(4):
        u = code.and_(code.lshr(unsigned, code.fill_int(8 * i)), code.fill_int(255))
        s = code.ashr(code.shl(signed, code.fill_int(24 - 8 * i)), code.fill_int(24))
        sums = code.add(sums, code.mul(u, s))
    return sums
