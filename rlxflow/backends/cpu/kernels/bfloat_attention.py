"""Attention of many tokens, with products of bf16: twice the rate of f32.

q (scaled), k and v are rounded to bf16, the weights of a block of keys cut to it; scores, weights' sums and
results are summed in f32. All rows of an item meet every block of keys, packed once, a vector of rows at a
time (see `bfloat_tile.py`). What a row sums, and in which order, follows from the positions of its sequence
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, HALF, I32, I64, PTR, Code, Index, Module, Value, f32, i64
from rlxflow.backends.cpu.kernels.bfloat import has_bfloat_products, neighbours, pairs_of
from rlxflow.backends.cpu.kernels.bfloat_tile import (
    FROM,
    KEYS,
    LANES,
    LOG2_E,
    LOWEST,
    SUMS,
    TALL,
    TOP,
    TOTALS,
    UP_TO,
    RoundedAttention,
    meet_block,
)
from rlxflow.backends.cpu.kernels.quantise import row_quantiser
from rlxflow.backends.cpu.target import Target

MOST_ROWS = 512  # of an item, which share the packed keys and values


def can_attend(target: Target, head_dim: int) -> bool:
    """Whether the processor has the products, and the head fits them."""
    return has_bfloat_products(target) and head_dim % 32 == 0


def most_tokens(heads: int) -> int:
    """Of an item."""
    return max(2, MOST_ROWS // heads)


def tokens_of_item(code: Code, heads: int, fair: Value) -> Value:
    """How many tokens an item has: a `fair` share, from a quarter of the most to the most."""
    least = i64(most_tokens(heads) // 4)
    return code.minimum(code.select(code.icmp_signed(">", fair, least), fair, least), most_tokens(heads))


def places(a: RoundedAttention) -> tuple[int, ...]:
    """Where in the scratch begin: queries, records, keys, values, scores, LANES rows of the result, the same
    quantised, and its end; in floats."""
    vectors = -(-most_tokens(a.heads) * a.heads // LANES)
    sizes = (vectors * LANES * a.words, vectors * a.record_words, *[KEYS * a.words] * 2, KEYS * LANES)
    sizes += (LANES * a.shape.head_dim, LANES // a.heads * a.result_words) if a.layout else (0, 0)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return tuple(starts)


def bfloat_item(module: Module, a: RoundedAttention) -> Any:
    """The function (q, keys, values, mask, sinks, out, scratch, number of the first token, tokens, keys).

    Keys and values are those from number 0 on; the numbers of tokens are those of their own keys.
    """

    def body(
        code: Code, q: Value, keys: Value, values: Value, mask: Value, sinks: Value, out: Value,
        scratch: Value, position: Value, tokens: Value, length: Value,
    ) -> None:  # fmt: skip
        starts = [code.at(scratch, p) for p in places(a)]
        queries, records, packed_keys, packed_values, scores, plain, coded, _ = starts
        quantise = None if a.layout is None else row_quantiser(code, a.layout, LANES * a.shape.head_dim)
        rows = code.mul(tokens, i64(a.heads))

        def record(row: Value) -> Value:
            return code.at(records, code.mul(row, i64(a.record_words // LANES)))

        def token(row: Value) -> Value:
            return code.add(position, code.sdiv(row, i64(a.heads)))

        def prepare(row: Value) -> None:
            numbers = _rows(code, row, rows)
            _pack_queries(code, a, [a.query(code, q, n) for n in numbers],
                          code.at(queries, code.mul(row, i64(a.words))))  # fmt: skip
            own = record(row)
            for j in range(0, a.record_words, LANES):
                code.put_vector(code.fill(LOWEST) if j == TOP else code.zero, own, j)
            for i, number in enumerate(numbers):
                for word, key in zip((FROM, UP_TO), _span(code, a, token(number), length), strict=True):
                    code.put(code.trunc(key, I32), own, word + i)
                if a.sinks:
                    score = code.get(sinks, code.srem(number, i64(a.heads)))
                    code.put(code.fmul(score, f32(LOG2_E)), own, TOP + i)
                    code.put(f32(1.0), own, TOTALS + i)

        def block(first: Value, _: tuple[Value, ...]) -> None:
            count = code.minimum(code.sub(length, first), KEYS)
            stop = code.add(first, i64(KEYS))
            holes = _has_holes(code, code.at(mask, first)) if a.masked else None
            code.call(_pack_keys(module, a), [keys, first, count, packed_keys])
            code.call(_pack_values(module, a), [values, first, count, packed_values])

            def tile(row: Value, _: tuple[Value, ...]) -> None:
                last = code.minimum(code.add(row, i64(LANES)), rows)
                least, most = (_span(code, a, token(r), length) for r in (row, code.sub(last, i64(1))))
                seen = code.minimum(code.sub(most[1], first), KEYS)
                some = code.icmp_signed(">", seen, i64(0))
                edge = code.icmp_signed("<", least[1], stop)
                if a.shape.window:
                    some = code.and_(some, code.icmp_signed("<", least[0], stop))
                    edge = code.or_(edge, code.icmp_signed(">", most[0], first))
                if holes is not None:
                    edge = code.or_(edge, holes)
                query = code.at(queries, code.mul(row, i64(a.words)))
                arguments = [query, record(row), packed_keys, packed_values, scores, mask, q, out,
                             first, seen, row]  # fmt: skip
                with code.if_then(some):
                    with code.if_then(code.icmp_signed(">=", least[0], first)):
                        prepare(row)
                    with code.if_else(edge) as (then, otherwise):
                        with then:
                            code.call(meet_block(module, a, True), arguments)
                        with otherwise:
                            code.call(meet_block(module, a, False), arguments)
                    with code.if_then(code.icmp_signed("<=", most[1], stop)):
                        if quantise is None:
                            targets = [a.result(code, out, n) for n in _rows(code, row, rows)]
                            _finish(code, a, record(row), targets)
                        else:
                            lines = [code.at(plain, i * a.shape.head_dim) for i in range(LANES)]
                            _finish(code, a, record(row), lines)
                            quantise(plain, coded)
                            number = code.sdiv(row, i64(a.heads))
                            whole = code.minimum(code.sub(tokens, number), LANES // a.heads)
                            _copy(code, a, coded, code.at(out, code.mul(number, i64(a.out_stride))), whole)

            code.loop(0, rows, LANES, tile)

        start, _ = _span(code, a, position, length)
        _, stop = _span(code, a, code.add(position, code.sub(tokens, i64(1))), length)
        code.loop(code.and_(start, i64(-KEYS)), stop, KEYS, block)

    return module.function(("bfloat attention", a), [PTR] * 7 + [I64] * 3, body)


def _rows(code: Code, row: Value, rows: Value) -> list[Value]:
    """LANES rows; those that fill up the last vector repeat the last row."""
    return [code.minimum(code.add(row, i64(i)), code.sub(rows, i64(1))) for i in range(LANES)]


def _span(code: Code, a: RoundedAttention, token: Value, length: Value) -> tuple[Value, Value]:
    """The first key that a token sees, and the one behind the last, but for masks."""
    start, stop, window = i64(0), length, a.shape.window
    if a.causal:
        stop = code.add(token, i64(1))
    elif window:
        stop = code.minimum(length, code.add(token, i64(window + 1)))
    if window:
        reach = i64(window - 1 if a.causal else window)
        start = code.sub(token, code.minimum(token, reach))
    return start, stop


def _has_holes(code: Code, mask: Value) -> Value:
    """Whether one of KEYS keys is masked."""
    least = code.get_vector(mask, 0)
    for j in range(LANES, KEYS, LANES):
        least = code.fmul(least, code.get_vector(mask, j))
    return code.fcmp_ordered("==", code.reduce(code.fmul, least), f32(0.0))


def _load(code: Code, a: RoundedAttention, x: Value, index: Index, stride: int) -> Value:
    """A vector of keys or values, as f32; the one of the next block is fetched meanwhile."""
    floats = KEYS * stride // (2 if a.half else 1)
    code.prefetch(code.at(x, index, HALF if a.half else F32), floats, near=False)
    return code.get_half(x, index) if a.half else code.get_vector(x, index)


def _pack_queries(code: Code, a: RoundedAttention, rows: Sequence[Value], result: Value) -> None:
    """Rows of q, scaled, as words [channels / 2, LANES]; weights will be powers of 2."""
    factor = code.fill(a.shape.scale * (1 if a.shape.softcap else LOG2_E))

    def channels(d: Value, _: tuple[Value, ...]) -> None:
        words = []
        for row in rows:
            two = [code.get_vector(row, code.add(d, i64(i))) for i in (0, LANES)]
            words.append(neighbours(code, *(code.fmul(x, factor) for x in two)))
        for i, column in enumerate(code.transposed(words)):
            code.put_as(column, result, code.add(code.mul(d, i64(LANES // 2)), i64(i * LANES)))

    code.loop(0, a.shape.head_dim, 2 * LANES, channels)


def _pack_keys(module: Module, a: RoundedAttention) -> Any:
    """The function (keys, first, count, result): words [count, channels / 2]."""

    def body(code: Code, keys: Value, first: Value, count: Value, result: Value) -> None:
        def key(k: Value, _: tuple[Value, ...]) -> None:
            start = code.mul(code.add(first, k), i64(a.k_stride))
            line = code.at(result, code.mul(k, i64(a.words)))
            for d in range(0, a.shape.head_dim, 2 * LANES):
                places = [code.add(start, i64(d + i)) for i in (0, LANES)]
                two = [_load(code, a, keys, place, a.k_stride) for place in places]
                code.put_as(neighbours(code, *two), line, d // 2)

        code.loop(0, count, 1, key)

    return module.function(("pack keys", a), [PTR, I64, I64, PTR], body)


def _pack_values(module: Module, a: RoundedAttention) -> Any:
    """The function (values, first, count, result): words [channels / TALL, KEYS / 2, TALL]; an odd last
    key is repeated."""

    def body(code: Code, values: Value, first: Value, count: Value, result: Value) -> None:
        def pair(k: Value, _: tuple[Value, ...]) -> None:
            following = code.minimum(code.add(k, i64(1)), code.sub(count, i64(1)))
            starts = [code.mul(code.add(first, n), i64(a.v_stride)) for n in (k, following)]
            line = code.at(result, code.mul(k, i64(TALL // 2)))
            for c in range(0, a.shape.head_dim, LANES):
                two = [_load(code, a, values, code.add(start, i64(c)), a.v_stride) for start in starts]
                words = pairs_of(code, *two)
                for i in range(0, LANES, TALL):
                    half = code.shuffle_vector(
                        words, words, ir.Constant(ir.VectorType(I32, TALL), [*range(i, i + TALL)])
                    )
                    code.put_as(half, line, (c + i) * KEYS // 2)

        code.loop(0, count, 2, pair)

    return module.function(("pack values", a), [PTR, I64, I64, PTR], body)


def _copy(code: Code, a: RoundedAttention, source: Value, out: Value, tokens: Value) -> None:
    """Quantised results of so many tokens, one behind the other, to their places."""
    words = a.result_words

    def token(i: Value, _: tuple[Value, ...]) -> None:
        own, place = code.at(source, code.mul(i, i64(words))), code.at(out, code.mul(i, i64(a.out_stride)))
        for j in range(0, words, LANES):
            count = min(LANES, words - j)
            code.put_vector(code.get_vector(own, j, count), place, j, count)

    code.loop(0, tokens, 1, token)


def _finish(code: Code, a: RoundedAttention, record: Value, rows: Sequence[Value]) -> None:
    """Rows of out = sums / total; zeros where nothing was seen."""
    total = code.get_vector(record, TOTALS)
    empty = code.fcmp_ordered("==", total, code.zero)
    inverse = code.fdiv(code.fill(1.0), code.select(empty, code.fill(1.0), total))

    def channels(c: Value, _: tuple[Value, ...]) -> None:
        sums = [code.add(code.mul(code.add(c, i64(i)), i64(LANES)), i64(SUMS)) for i in range(LANES)]
        columns = [code.fmul(code.get_vector(record, place), inverse) for place in sums]
        for row, vector in zip(rows, code.transposed(columns), strict=True):
            code.put_vector(vector, row, c)

    code.loop(0, a.shape.head_dim, LANES, channels)
