"""Elementary functions on vectors. NaN stays NaN: clamps are written so that a NaN operand passes.

Coefficients are least-maximum fits made for the intervals named; errors are those of float32 evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, Code, Value, f32

# x·P(x²)/Q(x²) on |x| ≤ 4, absolute error 3.2e-7
ERF_P = (1.128378987312317, 0.19624640047550201, 0.053467102348804474, 0.004003518261015415,
         0.0002880356914829463, 1.9748167687794194e-06)  # fmt: skip
ERF_Q = (1.0, 0.5072500109672546, 0.11647532135248184, 0.015444179065525532, 0.0012163231149315834,
         3.748041490325704e-05)  # fmt: skip
# x·P(x²)/Q(x²) on |x| ≤ 9, relative error 3e-7
TANH_P = (1.0, 0.13781854510307312, 0.0040041073225438595, 3.149796248180792e-05, 5.04692501124282e-08)
TANH_Q = (1.0, 0.47115185856819153, 0.02772141806781292, 0.00041996053187176585, 1.6106971543194959e-06,
          7.318721184645938e-10)  # fmt: skip
# e^r on |r| ≤ ln 2 / 2, relative error 3e-9 before rounding
EXP = (1.0, 1.0, 0.500000004714632, 0.16666415414041166, 0.041666352770387056, 0.008375134774678761,
       0.0013941118940759133)  # fmt: skip
LOG2_E = 1.4426950408889634
# e^r on |r| ≤ ln 2 / 64, relative error 5e-8 before rounding, exact at 0; what it is multiplied by
EXP_SHORT = (1.0, 1.0000146621, 0.5)
ROOTS = [2 ** (k / 32) for k in range(32)]

# 2^r on |r| ≤ 1/2, relative error 3e-6, exact at 0
EXP2 = (1.0, 0.6931241932806621, 0.24024098614653946, 0.055906425774982976, 0.009582853235818435)
# the same and half of the last bit that bf16 keeps, so that cutting rounds: mean error 3e-6, largest 5e-3 (of
# rounding 4e-3); 1 at 0
EXP2_TO_CUT = (1.0028779282301035, 0.698650419412741, 0.24229489405924512, 0.03858724917348529)


def polynomial(code: Code, coefficients: Sequence[float], x: Value) -> Value:
    """Σ c[i]·xⁱ by Horner's rule."""
    result = code.fill(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = code.fma_(result, x, code.fill(c))
    return result


def clamp(code: Code, x: Value, low: float, high: float) -> Value:
    """x within [low, high]; NaN passes."""
    low_v, high_v = code.fill(low), code.fill(high)
    x = code.select(code.fcmp_ordered(">", x, high_v), high_v, x)
    return code.select(code.fcmp_ordered("<", x, low_v), low_v, x)


def exp(code: Code, x: Value) -> Value:
    """eˣ: relative error below 2e-7; results below 2⁻¹²⁶ are 0."""
    within = clamp(code, x, -104.0, 104.0)
    if code.owner.target.name == "avx512":
        return _exp_avx512(code, within)
    n = code.per_lane("rint", code.fmul(within, code.fill(LOG2_E)))
    p = polynomial(code, EXP, _reduced(code, x, n))
    # 1.5·2²³ + n has n in its low bits; 2ⁿ is made in two factors, for n may be -150 or 150
    bits = code.bitcast(code.fadd(n, code.fill(12582912.0)), code.ints)
    whole = code.sub(bits, code.fill_int(0x4B400000))
    half = code.ashr(whole, code.fill_int(1))
    p = code.fmul(code.fmul(p, _power_of_two(code, half)), _power_of_two(code, code.sub(whole, half)))
    p = code.select(code.fcmp_ordered("<", x, code.fill(-87.336544)), code.zero, p)
    p = code.select(code.fcmp_ordered(">", x, code.fill(88.72284)), code.fill(float("inf")), p)
    return code.select(code.fcmp_unordered("uno", x, x), x, p)


def _reduced(code: Code, x: Value, n: Value) -> Value:
    """x - n·ln 2, for n of few bits."""
    return code.fma_(n, code.fill(2.12194440e-4), code.fma_(n, code.fill(-0.693359375), x))


def _power_of_two(code: Code, n: Value) -> Value:
    return code.bitcast(code.shl(code.add(n, code.fill_int(127)), code.fill_int(23)), code.vector)


def _exp_avx512(code: Code, x: Value) -> Value:
    """2^(k/32)·eʳ, the first from a table; 2ⁿ is applied by the instruction that handles overflow, underflow
    and NaN. |x| ≤ 104."""
    last_bit = code.fill(1.5 * 2**23 / len(ROOTS))  # of a sum with it is 1/32
    shifted = code.fma_(x, code.fill(LOG2_E), last_bit)
    n = code.fsub(shifted, last_bit)  # and k / 32
    r = _reduced(code, x, n)
    low, high = (
        ir.Constant(code.vector, [f32(x).constant for x in half]) for half in (ROOTS[:16], ROOTS[16:])
    )
    kinds = [code.vector, code.ints, code.vector]
    look_up = code.owner.intrinsic("llvm.x86.avx512.vpermi2var.ps.512", code.vector, kinds)
    root = code.call(look_up, [low, code.bitcast(shifted, code.ints), high])  # by the last five bits
    p = code.fma_(code.fmul(root, r), polynomial(code, EXP_SHORT[1:], r), root)
    kinds = [code.vector, code.vector, code.vector, ir.IntType(16), I32]
    scale = code.owner.intrinsic("llvm.x86.avx512.mask.scalef.ps.512", code.vector, kinds)
    return code.call(scale, [p, n, p, ir.Constant(ir.IntType(16), -1), ir.Constant(I32, 4)])


def exp2(code: Code, x: Value, coefficients: Sequence[float] = EXP2) -> Value:
    """2ˣ for x ≤ 0; below 2⁻¹²⁶ it is subnormal or 0."""
    x = code.larger(code.fill(-127.0), x)
    shifted = code.fadd(x, code.fill(12582912.0))  # 1.5·2²³: the nearest integer is in the low bits
    p = polynomial(code, coefficients, code.fsub(x, code.fsub(shifted, code.fill(12582912.0))))
    exponent = code.shl(code.bitcast(shifted, code.ints), code.fill_int(23))
    return code.bitcast(code.add(code.bitcast(p, code.ints), exponent), code.vector)


def _odd_ratio(code: Code, x: Value, p: Sequence[float], q: Sequence[float], limit: float) -> Value:
    """x·P(x²)/Q(x²), and exactly ±1 from ±limit on."""
    x = clamp(code, x, -limit, limit)
    square = code.fmul(x, x)
    y = code.fdiv(code.fmul(x, polynomial(code, p, square)), polynomial(code, q, square))
    y = code.select(code.fcmp_ordered(">=", x, code.fill(limit)), code.fill(1.0), y)
    return code.select(code.fcmp_ordered("<=", x, code.fill(-limit)), code.fill(-1.0), y)


def erf(code: Code, x: Value) -> Value:
    return _odd_ratio(code, x, ERF_P, ERF_Q, 4.0)


def tanh(code: Code, x: Value) -> Value:
    return _odd_ratio(code, x, TANH_P, TANH_Q, 9.0)


def sigmoid(code: Code, x: Value, times: Value | None = None) -> Value:
    """1 / (1 + e⁻ˣ), or `times` / (1 + e⁻ˣ): one rounding and one product less than a multiple of it."""
    one = code.fill(1.0)
    return code.fdiv(one if times is None else times, code.fadd(one, exp(code, code.fneg(x))))
