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

ROUND_BITS = 0x4B400000  # of 1.5·2²³: what is added to it is rounded to an integer, found in the low bits
MANTISSA, SIGN = 23, -(1 << 31)
BELOW_ONE = (1 << MANTISSA) - 1  # added to a float's bits, makes its exponent that of the next power of two
ZEROS = range(8)  # log2 z
HEAD = Quantised32.values  # words of a block before its q
RUN = 64  # blocks whose needs are kept


class _Found(NamedTuple):
    """Of every block, a lane each: see `Quantised32`; q is x·factor + offset, in the low byte of the sum."""

    first: Value
    bias: Value
    zero: Value
    factor: Value
    offset: Value


def quantise_32(code: Code, layout: Quantised32, depth: int) -> Callable[[Value, Value], None]:
    """What quantises one row (x, out); emit it outside of loops."""
    function = code.owner.function(("quantise 32", layout, depth), [PTR] * 3, partial(_row, layout, depth))
    room = code.alloca(code.vector, i64((HEAD + 3 + code.lanes) * RUN // code.lanes))
    room.align = 64
    return lambda x, out: code.call(function, [x, out, room]) and None


def _row(layout: Quantised32, depth: int, code: Code, x: Value, out: Value, room: Value) -> None:
    """The room: heads, factors, offsets, biases, and sums of a run of blocks.

    What all blocks of a run need is found before the first is written, which would wait for it.
    """
    count, lanes, words = depth // layout.block, code.lanes, layout.words
    size, head = max(lanes, Quantised32.group), ir.VectorType(F32, HEAD)
    factors, offsets, biases, sums = (code.at(room, (HEAD + n) * RUN) for n in range(4))

    def run(first: Value, _: tuple[Value, ...]) -> None:
        left = code.minimum(code.sub(i64(count), first), RUN)
        last = code.sub(left, i64(1))

        def batch(own: Value, _: tuple[Value, ...]) -> None:
            numbers = [code.add(first, code.minimum(last, code.add(own, i64(i)))) for i in range(size)]
            found = _find(code, [code.at(x, code.mul(n, i64(layout.block))) for n in numbers])
            for v, fields in enumerate(found):
                start = code.add(own, i64(v * lanes))
                for place, value in (
                    (factors, fields.factor),
                    (offsets, fields.offset),
                    (biases, fields.bias),
                ):
                    code.store(value, code.at(place, start), align=4 * lanes)
                heads = code.at(room, code.mul(start, i64(HEAD)))
                for n, value in enumerate(_heads(code, fields)):
                    code.store(value, code.at(heads, n * lanes), align=4 * lanes)

        def block(i: Value, _: tuple[Value, ...]) -> None:
            number = code.add(first, i)
            record = code.at(out, code.mul(number, i64(words)))
            code.put_as(code.load(code.at(room, code.mul(i, i64(HEAD))), typ=head, align=16), record)
            source = code.at(x, code.mul(number, i64(layout.block)))
            factor, offset = (code.load(code.at(p, i), typ=F32) for p in (factors, offsets))
            total = _write(code, source, factor, offset, code.at(record, layout.values))
            if layout.sums:
                code.store(total, code.at(sums, code.mul(i, i64(lanes))), align=4 * lanes)

        def sum_up(start: Value, _: tuple[Value, ...]) -> None:
            own = code.at(sums, code.mul(start, i64(lanes)))
            every = [code.load(code.at(own, i * lanes), typ=code.ints, align=4 * lanes) for i in range(lanes)]
            total = _across(code, code.add, _halves(code, code.add, every))
            places = (code.at(p, start) for p in (offsets, biases))
            offset, bias = (code.load(p, typ=code.ints, align=4 * lanes) for p in places)
            minus = code.sitofp(code.sub(code.shl(offset, code.fill_int(5)), total), code.vector)
            power = code.bitcast(code.sub(bias, code.fill_int(layout.magic)), code.vector)
            code.store(code.fmul(minus, power), code.at(factors, start), align=4 * lanes)

        def last_word(i: Value, _: tuple[Value, ...]) -> None:
            record = code.at(out, code.mul(code.add(first, i), i64(words)))
            code.put(code.load(code.at(factors, i), typ=F32), record, HEAD - 1)

        code.loop(0, left, size, batch)
        code.loop(0, left, 1, block)
        if layout.sums:
            code.loop(0, left, lanes, sum_up)
            code.loop(0, left, 1, last_word)

    code.loop(0, count, RUN, run)
    if count % layout.group == 1:
        following = (count - 1) % RUN + 1  # of the last group too, though there is no such block
        code.put(code.load(code.at(room, HEAD * following), typ=F32), out, count * words)


def _heads(code: Code, fields: _Found) -> list[Value]:
    """The first words of all blocks, block by block; the last of them is zero."""
    first, bias, zero = (code.bitcast(v, code.vector) for v in fields[:3])
    pairs = zip(code.interleaved(first, zero), code.interleaved(bias, code.zero), strict=True)
    return [v for a, b in pairs for v in code.interleaved(a, b)]


def _find(code: Code, starts: list[Value]) -> list[_Found]:
    """Of the blocks that start there, of whole groups."""
    lanes = code.lanes
    needs = [_needs(code, starts[i : i + lanes]) for i in range(0, len(starts), lanes)]
    top = _of_groups(code, [n.scale for n in needs])
    return [_scaled(code, need, top, i * lanes) for i, need in enumerate(needs)]


class _Needs(NamedTuple):
    """Of every block, a lane each: the scale alone, log2 z, and whether p is negative."""

    scale: Value
    zero: Value
    flipped: Value


def _needs(code: Code, starts: list[Value]) -> _Needs:
    highest, lowest = [], []
    for bits in _side_by_side(code, starts, Quantised32.block):
        highest.append(reduce(partial(_most, code), bits))
        lowest.append(reduce(partial(_most_unsigned, code), bits))
    # max(0, x) and max(0, -x); NaN where one has that sign: its bits are the largest
    up = _most(code, _across(code, partial(_most, code), highest), code.nothing)
    down = code.xor(_across(code, partial(_most_unsigned, code), lowest), code.fill_int(SIGN))
    down = _most(code, down, code.nothing)
    flipped = code.icmp_signed(">", down, up)
    near, far = (code.bitcast(code.select(flipped, *p), code.vector) for p in ((up, down), (down, up)))
    needed = (
        code.larger(code.fmul(near, code.fill(0.5**k)), code.fmul(far, code.fill(1 / (255 - 2**k))))
        for k in ZEROS
    )
    scale = reduce(partial(_smaller, code), needed)
    # the smallest z that reaches near
    steps = code.sub(code.bitcast(near, code.ints), code.bitcast(scale, code.ints))
    zero = code.ashr(code.add(steps, code.fill_int(BELOW_ONE)), code.fill_int(MANTISSA))
    return _Needs(scale, _most(code, zero, code.nothing), flipped)


def _scaled(code: Code, need: _Needs, top: Value, start: int) -> _Found:
    """Scales become M times a power of two, at least as large; the first lane is block `start`."""
    scale, zero, flipped = need
    one = code.fill_int(127 << MANTISSA)
    mantissa = code.or_(code.and_(code.bitcast(top, code.ints), code.fill_int(BELOW_ONE)), one)
    unit = code.larger(
        code.bitcast(mantissa, code.vector), code.fmul(top, code.fill(0.5**Quantised32.highest))
    )
    share = code.bitcast(code.fdiv(scale, unit), code.ints)
    power = code.and_(code.add(share, code.fill_int(BELOW_ONE)), code.fill_int(~BELOW_ONE))
    power = _most(code, power, code.fill_int((127 + Quantised32.lowest) << MANTISSA))
    sign = code.select(flipped, code.fill_int(SIGN), code.nothing)
    inverse = code.fdiv(code.fill(1.0), unit)
    factor = code.xor(code.sub(code.bitcast(inverse, code.ints), code.sub(power, one)), sign)
    offset = code.add(code.shl(code.fill_int(1), zero), code.fill_int(ROUND_BITS))
    leads = ir.Constant(code.bools, [(start + i) % Quantised32.group == 0 for i in range(code.lanes)])
    return _Found(
        code.select(leads, inverse, unit),
        code.xor(code.add(power, code.fill_int(Quantised32.magic)), sign),
        zero,
        code.bitcast(factor, code.vector),
        code.bitcast(offset, code.vector),
    )


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
    """Write the q of a block; integers whose sum over lanes is Σ (q - z) + 32·bits of the offset."""
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


def _side_by_side(code: Code, starts: list[Value], width: int) -> list[list[Value]]:
    """`width` integers from each of as many addresses as lanes: vectors of half a one from address i and half
    a one from address i + lanes / 2, for every i."""
    half = code.lanes // 2
    kind, order = ir.VectorType(I32, half), ir.Constant(code.ints, list(range(code.lanes)))

    def vector(low: Value, high: Value, j: int) -> Value:
        return code.shuffle_vector(*(code.get_as(start, kind, j) for start in (low, high)), order)

    pairs = zip(starts[:half], starts[half:], strict=True)
    return [[vector(*pair, j) for j in range(0, width, half)] for pair in pairs]


def _halves(code: Code, combine: Callable[[Value, Value], Value], vectors: list[Value]) -> list[Value]:
    """As many vectors as lanes, each combined with itself by halves: `_side_by_side`."""
    half = code.lanes // 2
    low = [*range(half), *range(code.lanes, code.lanes + half)]
    orders = [ir.Constant(code.ints, [i + more for i in low]) for more in (0, half)]
    pairs = zip(vectors[:half], vectors[half:], strict=True)
    return [combine(*(code.shuffle_vector(a, b, o) for o in orders)) for a, b in pairs]


def _across(code: Code, combine: Callable[[Value, Value], Value], vectors: list[Value]) -> Value:
    """Lane l: all lanes of address l combined, of vectors that are `_side_by_side`.

    First within four neighbouring lanes, which takes cheaper instructions; so vectors are paired in an order
    that ends in theirs.
    """
    lanes, half = code.lanes, code.lanes // 2
    near = min(4, half)
    quarters = half // near
    vectors = [vectors[near * (v % quarters) + v // quarters] for v in range(half)]
    while len(vectors) > 1:
        run, within = (1, near) if len(vectors) > quarters else (near, half)
        order = [
            source + first + i + lane
            for first in range(0, lanes, within)
            for i in range(0, within // 2, run)
            for source in (0, lanes)
            for lane in range(run)
        ]
        orders = [ir.Constant(code.ints, [x + more for x in order]) for more in (0, within // 2)]
        middle = len(vectors) // 2
        vectors = [
            combine(*(code.shuffle_vector(a, b, o) for o in orders))
            for a, b in zip(vectors[:middle], vectors[middle:], strict=True)
        ]
    return vectors[0]
