"""Rows of f32 in rotated blocks of 64, see `Quantised64`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, I8, I32, Code, Index, Value, f32, i64
from rlxflow.backends.cpu.quantised import Quantised64

SMALLEST = 0x0DA24260  # the bits of 1e-30, below which no group's max|x| counts: reciprocals stay finite
ROUND = 12582912.0 + 128  # 1.5·2²³ + z: adding it rounds to an integer, whose lowest byte is the code
MANTISSA, INFINITY = 23, 0x7F800000
BLOCK, WORDS, MOST = Quantised64.block, Quantised64.words, Quantised64.most


def quantise_64(code: Code, depth: int, x: Value, out: Value) -> None:
    """Quantise one row."""
    blocks, group = -(-depth // BLOCK), Quantised64.group
    sizes = [min(BLOCK, depth - k) for k in range(0, depth, BLOCK)]
    whole = depth // (BLOCK * group) * group

    def step(first: Index, carried: Sequence[Value], own: Sequence[int]) -> tuple[Value, Value]:
        mantissa, most = carried
        source, records = code.at(x, code.mul(i64(first), i64(BLOCK))), _records(code, out, first)
        return _group(code, own, source, records, mantissa, most)

    carried = code.loop(0, whole, group, lambda i, c: step(i, c, sizes[:group]), (f32(1.0), I32(0)))
    if whole < blocks:
        carried = step(whole, carried, sizes[whole:])
    mantissa, most = carried
    base = code.sub(code.and_(most, I32(INFINITY)), I32(MOST << MANTISSA))
    code.put(code.fmul(mantissa, code.bitcast(base, F32)), out)

    def relative(i: Value, _: tuple[Value, ...]) -> None:
        record = _records(code, out, i)
        power = code.sub(code.get(record, 0, I32), base)
        code.put(code.select(code.icmp_signed("<", power, I32(0)), I32(0), power), record)

    code.loop(0, blocks, 1, relative)


def _records(code: Code, out: Value, block: Index) -> Value:
    """Where the words of a block begin."""
    return code.at(out, code.add(code.mul(i64(block), i64(WORDS)), i64(Quantised64.head)))


def _group(
    code: Code, sizes: Sequence[int], x: Value, out: Value, before: Value, most: Value
) -> tuple[Value, Value]:
    """Write a group, powers of two as exponents of floats; its M, and the largest scale so far as bits."""
    blocks = [_rotated_block(code, size, code.at(x, BLOCK * i)) for i, size in enumerate(sizes)]
    tops = [_top(code, vectors) for vectors in blocks]
    top = reduce(lambda a, b: _larger(code, a, b), tops, I32(SMALLEST))
    reach = code.bitcast(top, F32)
    scale, factor = code.fmul(reach, f32(1 / 127)), code.fdiv(f32(127.0), reach)
    bits = code.bitcast(scale, I32)
    mantissa = code.or_(code.and_(bits, I32((1 << MANTISSA) - 1)), I32(127 << MANTISSA))
    finite = code.icmp_signed("<", top, I32(INFINITY))
    mantissa = code.select(finite, code.bitcast(mantissa, F32), scale)
    code.put(code.fdiv(before, mantissa), out, 1)
    for i, (size, vectors) in enumerate(zip(sizes, blocks, strict=True)):
        record = code.at(out, i * WORDS)
        steps = code.ashr(code.sub(top, tops[i]), I32(MANTISSA))  # halvings that leave room for this block
        steps = code.select(code.icmp_signed("<", steps, I32(MOST)), steps, I32(MOST))
        raised = code.shl(steps, I32(MANTISSA))
        code.put(code.sub(code.and_(bits, I32(INFINITY)), raised), record)
        finer = code.bitcast(code.add(code.bitcast(factor, I32), raised), F32)
        _write(code, size, vectors, code.splat(finer), code.at(record, Quantised64.values))
    return mantissa, _larger(code, most, bits)


def _rotated_block(code: Code, size: int, x: Value) -> list[Value]:
    """A block as vectors, rotated if it is a whole one; elements beyond it are zero."""
    rests = [size - j for j in range(0, size, code.lanes)]
    vectors = [code.get_vector(x, size - n, None if n >= code.lanes else n) for n in rests]
    return rotated(code, vectors) if size == BLOCK else vectors


def rotated(code: Code, vectors: Sequence[Value]) -> list[Value]:
    """H·x for the Hadamard matrix H of all elements: sums and differences of both halves, and so on."""
    found, half = list(vectors), len(vectors) // 2
    while half:
        for i in (i for i in range(len(found)) if not i & half):
            a, b = found[i], found[i + half]
            found[i], found[i + half] = code.fadd(a, b), code.fsub(a, b)
        half //= 2
    step = code.lanes // 2
    while step:
        order = ir.Constant(code.ints, [lane ^ step for lane in range(code.lanes)])
        signs = ir.Constant(code.vector, [-1.0 if lane & step else 1.0 for lane in range(code.lanes)])
        found = [code.fma_(v, signs, code.shuffle_vector(v, v, order)) for v in found]
        step //= 2
    return found


def _top(code: Code, vectors: Sequence[Value]) -> Value:
    """The bits of max|x|: as integers, those of NaN are the largest."""
    magnitudes = [code.and_(code.bitcast(v, code.ints), code.fill_int(0x7FFFFFFF)) for v in vectors]
    return code.reduce(lambda a, b: _larger(code, a, b), reduce(lambda a, b: _larger(code, a, b), magnitudes))


def _larger(code: Code, a: Value, b: Value) -> Value:
    return code.select(code.icmp_signed(">", a, b), a, b)


def _write(code: Code, size: int, vectors: Sequence[Value], factor: Value, out: Value) -> None:
    """Write the codes of a block. Of a vector that is not full, the rest are 128."""
    for number, vector in enumerate(vectors):
        bits = code.bitcast(code.fadd(code.fmul(vector, factor), code.fill(ROUND)), code.ints)
        code.put_as(code.trunc(bits, ir.VectorType(I8, code.lanes)), code.at(out, number * code.lanes, I8))
