"""Rows of f32 in blocks of 32, see `Quantised32`.

What a block needs is found for a vector of blocks at once, a lane each, and for whole groups.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, I8, I32, PTR, Code, Value, i64
from rlxflow.backends.cpu.quantised import Quantised32

SMALLEST = 1e-30  # of a group's largest element; below, all its q are z and M is 0: reciprocals stay finite
ROUND, ROUND_BITS = 12582912.0, 0x4B400000  # 1.5·2²³: adding it rounds to an integer, found in the low bits
MANTISSA, SIGN = 23, -(1 << 31)
ZEROS = range(8)  # log2 z


class _Found(NamedTuple):
    """Of every block, a lane each: see `Quantised32`; q is x·factor + offset, in the low byte of the sum."""

    scale: Value
    power: Value
    zero: Value
    factor: Value
    offset: Value


def quantise_32(code: Code, depth: int) -> Callable[[Value, Value], None]:
    """What quantises one row (x, out); emit it outside of loops."""
    function = code.owner.function(("quantise 32", depth), [PTR] * 3, partial(_row, depth))
    room = code.alloca(code.vector, i64((len(_Found._fields) + code.lanes) * _vectors(code)))
    room.align = 64
    return lambda x, out: code.call(function, [x, out, room]) and None


def _vectors(code: Code) -> int:
    """Vectors of whole groups, with a lane per block."""
    return max(1, Quantised32.group // code.lanes)


def _row(depth: int, code: Code, x: Value, out: Value, room: Value) -> None:
    count, lanes, words = depth // Quantised32.block, code.lanes, Quantised32.words
    size = lanes * _vectors(code)
    sums = code.at(room, len(_Found._fields) * size)

    def batch(first: Value, _: tuple[Value, ...]) -> None:
        left = code.minimum(code.sub(i64(count), first), size)
        last = code.sub(left, i64(1))
        starts = [
            code.at(x, code.mul(code.add(first, code.minimum(last, i)), i64(Quantised32.block)))
            for i in range(size)
        ]
        found = _find(code, starts)
        for v, fields in enumerate(found):
            for n, value in enumerate(fields):
                code.store(value, code.at(room, n * size + v * lanes), align=4 * lanes)

        def block(i: Value, _: tuple[Value, ...]) -> None:
            number = code.add(first, i)
            source = code.at(x, code.mul(number, i64(Quantised32.block)))
            record = code.at(out, code.mul(number, i64(words)))
            *own, factor, offset = (
                code.load(code.at(room, code.add(i64(n * size), i)), typ=F32) for n in range(len(_Found._fields))
            )
            for word, value in enumerate(own):
                code.put(value, record, word)
            total = _write(code, source, factor, offset, code.at(record, Quantised32.values))
            code.store(total, code.at(sums, code.mul(i, i64(lanes))), align=4 * lanes)

        code.loop(0, left, 1, block)
        for v, fields in enumerate(found):
            every = range(v * lanes, (v + 1) * lanes)
            vectors = [code.load(code.at(sums, i * lanes), typ=code.ints, align=4 * lanes) for i in every]
            zeros = code.shl(code.bitcast(fields.offset, code.ints), code.fill_int(5))
            minus = code.sitofp(code.sub(zeros, _across(code, code.add, vectors)), code.vector)
            power = code.bitcast(code.add(fields.power, code.fill_int(127 << MANTISSA)), code.vector)
            code.store(code.fmul(minus, power), code.at(room, v * lanes), align=4 * lanes)

        def last_word(i: Value, _: tuple[Value, ...]) -> None:
            record = code.at(out, code.mul(code.add(first, i), i64(words)))
            code.put(code.load(code.at(room, i), typ=F32), record, 3)

        code.loop(0, left, 1, last_word)

    code.loop(0, count, size, batch)


def _find(code: Code, starts: list[Value]) -> list[_Found]:
    """Of the blocks that start there, of whole groups."""
    lanes = code.lanes
    needs = [_needs(code, starts[i : i + lanes]) for i in range(0, len(starts), lanes)]
    top, furthest = (_of_groups(code, [n[i] for n in needs]) for i in (0, 1))
    return [_scaled(code, need, top, furthest) for need in needs]


class _Needs(NamedTuple):
    """Of every block, a lane each: the scale alone, how far x reaches, log2 z, and whether p is negative."""

    scale: Value
    far: Value
    zero: Value
    flipped: Value


def _needs(code: Code, starts: list[Value]) -> _Needs:
    highest, lowest = [], []
    for start in starts:
        bits = [code.get_as(code.at(start, j), code.ints) for j in range(0, Quantised32.block, code.lanes)]
        highest.append(reduce(partial(_most, code), bits))
        lowest.append(reduce(partial(_most_unsigned, code), bits))
    up = _across(code, partial(_most, code), highest)
    down = _across(code, partial(_most_unsigned, code), lowest)
    up = _most(code, up, code.nothing)
    down = _most(code, code.xor(down, code.fill_int(SIGN)), code.nothing)
    flipped = code.icmp_signed(">", down, up)
    near, far = (code.bitcast(code.select(flipped, *p), code.vector) for p in ((up, down), (down, up)))
    scale = reduce(
        partial(_smaller, code),
        (
            code.larger(code.fmul(near, code.fill(0.5**k)), code.fmul(far, code.fill(1 / (255 - 2**k))))
            for k in ZEROS
        ),
    )
    steps = code.sub(code.bitcast(near, code.ints), code.bitcast(scale, code.ints))
    zero = _most(code, _powers(code, steps), code.nothing)
    return _Needs(scale, far, zero, flipped)


def _scaled(code: Code, need: _Needs, top: Value, furthest: Value) -> _Found:
    """Scales become those of their group times a power of two, at least as large."""
    scale, far, zero, flipped = need
    tiny = code.fcmp_ordered("<", furthest, code.fill(SMALLEST))
    share = code.bitcast(code.fdiv(scale, top), code.ints)
    steps = code.lshr(code.add(share, code.fill_int((1 << MANTISSA) - 1)), code.fill_int(MANTISSA))
    steps = _most(code, code.sub(steps, code.fill_int(127 - Quantised32.most)), code.nothing)
    none = code.icmp_signed("==", code.bitcast(far, code.ints), code.nothing)
    steps = code.select(code.or_(none, tiny), code.nothing, steps)
    sign = code.select(code.and_(flipped, code.not_(none)), code.fill_int(SIGN), code.nothing)
    raised = code.shl(steps, code.fill_int(MANTISSA))
    most = code.fill_int(Quantised32.most << MANTISSA)
    factor = code.bitcast(code.fdiv(code.fill(1.0), top), code.ints)
    factor = code.xor(code.sub(factor, code.sub(raised, most)), sign)
    factor = code.bitcast(code.select(tiny, code.nothing, factor), code.vector)
    unit = code.fmul(top, code.fill(0.5**Quantised32.most))
    offset = code.bitcast(code.add(code.shl(code.fill_int(1), zero), code.fill_int(ROUND_BITS)), code.vector)
    return _Found(code.select(tiny, code.zero, unit), code.or_(raised, sign), zero, factor, offset)


def _of_groups(code: Code, vectors: list[Value]) -> Value:
    """The largest of every group, in all of its lanes, where groups lie in one vector or in all of them; f32
    from 0 on, compared as integers."""
    bits = reduce(partial(_most, code), (code.bitcast(v, code.ints) for v in vectors))
    step = 1
    while step < min(Quantised32.group, code.lanes):
        order = ir.Constant(code.ints, [lane ^ step for lane in range(code.lanes)])
        bits = _most(code, bits, code.shuffle_vector(bits, bits, order))
        step *= 2
    return code.bitcast(bits, code.vector)


def _write(code: Code, x: Value, factor: Value, offset: Value, out: Value) -> Value:
    """Write the q of a block; a vector of integers whose lanes sum up to Σ (q - z) + 32·bits of the offset."""
    factors, offsets, total = code.splat(factor), code.splat(offset), code.nothing
    for j in range(0, Quantised32.block, code.lanes):
        rounded = code.fadd(code.fmul(code.get_vector(x, j), factors), offsets)
        bits = code.bitcast(rounded, code.ints)
        code.put_as(code.trunc(bits, ir.VectorType(I8, code.lanes)), code.at(out, j, I8))
        total = code.add(total, bits)
    return total


def _most(code: Code, a: Value, b: Value) -> Value:
    """The larger of two integers per lane."""
    return code.select(code.icmp_signed(">", a, b), a, b)


def _most_unsigned(code: Code, a: Value, b: Value) -> Value:
    return code.select(code.icmp_unsigned(">", a, b), a, b)


def _smaller(code: Code, a: Value, b: Value) -> Value:
    """min(a, b) per lane; b where either is NaN."""
    return code.select(code.fcmp_ordered("<", a, b), a, b)


def _powers(code: Code, bits: Value) -> Value:
    """The exponent of the next power of two, given the bits of an f32 / 2^-127."""
    return code.ashr(code.add(bits, code.fill_int((1 << MANTISSA) - 1)), code.fill_int(MANTISSA))


def _across(code: Code, combine: Callable[[Value, Value], Value], vectors: list[Value]) -> Value:
    """Lane l: all lanes of vector l combined. There are as many vectors as lanes."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [combine(*code.interleaved(a, b)) for a, b in pairs]
    return vectors[0]
