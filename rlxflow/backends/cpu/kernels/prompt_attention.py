"""Causal attention of many tokens over a cache, with products of bf16: twice the rate of f32.

q (scaled), k, v and the weights of a block of keys are rounded to bf16; scores, weights' sums and results are
summed in f32. A row of work is a token and one of the query heads of a key head; all rows of an item meet
every block of keys, a few rows at a time. Bytes of two bf16 make a word: neighbouring channels of q and k,
neighbouring keys of the weights and v.
"""

from __future__ import annotations

from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Module, Value, f32, i64
from rlxflow.backends.cpu.kernels.bfloat import add_products, has_bfloat_products, neighbours, pairs_of
from rlxflow.backends.cpu.kernels.running_softmax import KEYS, Shape
from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass

TOKENS = 48  # of an item: they share the packed keys and values
ROWS = 6  # of a tile: with four vectors of keys, 24 sums
WIDE = 4  # vectors of keys, or of channels, of a tile
UNSEEN = -1e30  # below all scores
LOG2_E = 1.4426950408889634
TOP, FACTOR, TOTALS, SUMS = 0, 1, 16, 32  # floats of a record: see `_meet`


def can_attend(target: Target, head_dim: int) -> bool:
    """Whether the processor has the products, and the head fits them."""
    return has_bfloat_products(target) and head_dim % 32 == 0


@dataclass(frozen=True)
class PromptAttention:
    """As `CachedAttention`."""

    shape: Shape
    group: int
    half: bool
    sinks: bool
    q_stride: int
    out_stride: int

    @property
    def rows(self) -> int:
        """Rows of an item, up to whole tiles."""
        return -(-TOKENS * self.group // ROWS) * ROWS

    @property
    def record(self) -> int:
        return SUMS + self.shape.head_dim

    @property
    def places(self) -> tuple[int, ...]:
        """Where in the scratch begin: queries, records, keys, values, weights, and its end; in floats."""
        words = self.shape.head_dim // 2
        sizes = (self.rows * words, self.rows * self.record, KEYS * words, KEYS * words, ROWS * KEYS // 2)
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + size)
        return tuple(starts)


def prompt_item(module: Module, a: PromptAttention) -> Any:
    """The function (q, keys, values, sinks, out, scratch, first position, length, number of the item)."""
    shape, dim = a.shape, a.shape.head_dim

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, out: Value, scratch: Value,
        position: Value, length: Value, number: Value,
    ) -> None:  # fmt: skip
        begin = code.mul(number, i64(TOKENS))
        tokens = code.minimum(code.sub(length, begin), TOKENS)
        lowest = code.add(position, begin)
        stop, start = code.add(lowest, tokens), i64(0)
        if shape.window:
            seen = code.add(lowest, i64(1))
            start = code.and_(code.sub(seen, code.minimum(seen, i64(shape.window))), i64(-KEYS))
        queries, records, keys_t, pairs, weights, _ = (code.at(scratch, p) for p in a.places)
        rows = code.mul(tokens, i64(a.group))

        def row_at(x: Value, stride: int, row: Value) -> Value:
            token, head = code.sdiv(row, i64(a.group)), code.srem(row, i64(a.group))
            place = code.mul(code.add(begin, token), i64(stride))
            return code.at(x, code.add(place, code.mul(head, i64(dim))))

        def prepare(row: Value, _: tuple[Value, ...]) -> None:
            """Rows that fill up the last tile repeat the last one."""
            source = row_at(q, a.q_stride, code.minimum(row, code.sub(rows, i64(1))))
            _pack_row(code, a, source, code.at(queries, code.mul(row, i64(dim // 2))))
            record = code.at(records, code.mul(row, i64(a.record)))
            for j in range(0, a.record, code.lanes):
                code.put_vector(code.zero, record, j)
            code.put(f32(UNSEEN), record, TOP)
            if a.sinks:
                score = code.get(sinks, code.srem(row, i64(a.group)))
                code.put(code.fmul(score, f32(LOG2_E)), record, TOP)
                code.put(f32(1.0), record, TOTALS)

        def block(first: Value, _: tuple[Value, ...]) -> None:
            count = code.minimum(code.sub(stop, first), KEYS)
            code.call(_pack_keys(module, a), [keys, first, count, keys_t])
            code.call(_pack_values(module, a), [values, first, count, pairs])

            def tile(row: Value, _: tuple[Value, ...]) -> None:
                token = code.add(lowest, code.sdiv(row, i64(a.group)))
                end = code.add(lowest, code.sdiv(code.add(row, i64(ROWS - 1)), i64(a.group)))
                own = [
                    code.at(queries, code.mul(row, i64(dim // 2))),
                    code.at(records, code.mul(row, i64(a.record))),
                ]
                seen = code.minimum(code.sub(code.add(end, i64(1)), first), count)
                edge = code.icmp_signed("<", code.sub(token, first), i64(KEYS - 1))
                if shape.window:
                    late = code.icmp_signed(">=", code.sub(end, first), i64(shape.window))
                    edge = code.or_(edge, late)
                arguments = [*own, keys_t, pairs, weights, seen, code.sub(lowest, first), row]
                some = code.icmp_signed(">", seen, i64(0))
                with code.if_then(some), code.if_else(edge) as (then, otherwise):
                    with then:
                        code.call(_tile(module, a, True), arguments)
                    with otherwise:
                        code.call(_tile(module, a, False), arguments)

            code.loop(0, rows, ROWS, tile)

        def finish(row: Value, _: tuple[Value, ...]) -> None:
            record = code.at(records, code.mul(row, i64(a.record)))
            total = code.reduce(code.fadd, code.get_vector(record, TOTALS))
            inverse = code.splat(code.fdiv(f32(1.0), total))
            result = row_at(out, a.out_stride, row)
            for c in range(0, dim, code.lanes):
                code.put_vector(code.fmul(code.get_vector(record, SUMS + c), inverse), result, c)

        code.loop(0, code.mul(code.sdiv(code.add(rows, i64(ROWS - 1)), i64(ROWS)), i64(ROWS)), 1, prepare)
        code.loop(start, stop, KEYS, block)
        code.loop(0, rows, 1, finish)

    return module.function(("prompt attention", a), [PTR] * 6 + [I64] * 3, body)


def _load(code: Code, a: PromptAttention, cache: Value, index: Value) -> Value:
    """A vector of a cache, as f32."""
    return code.get_half(cache, index) if a.half else code.get_vector(cache, index)


def _pack_row(code: Code, a: PromptAttention, source: Value, result: Value) -> None:
    """A row of q, scaled; weights will be powers of 2."""
    factor = code.fill(a.shape.scale * (1 if a.shape.softcap else LOG2_E))
    for d in range(0, a.shape.head_dim, 2 * code.lanes):
        two = [code.fmul(code.get_vector(source, d + i * code.lanes), factor) for i in (0, 1)]
        code.put_as(neighbours(code, *two), code.at(result, d // 2))


def _pack_keys(module: Module, a: PromptAttention) -> Any:
    """The function (keys, first, count, result): words [channels / 2, KEYS]; the last key is repeated up to a
    whole vector."""
    dim = a.shape.head_dim

    def body(code: Code, keys: Value, first: Value, count: Value, result: Value) -> None:
        lanes, last = code.lanes, code.sub(count, i64(1))

        def some(k: Value, _: tuple[Value, ...]) -> None:
            numbers = [code.minimum(code.add(k, i64(i)), last) for i in range(lanes)]
            starts = [code.mul(code.add(first, n), i64(dim)) for n in numbers]

            def channels(d: Value, _: tuple[Value, ...]) -> None:
                rows = []
                for start in starts:
                    place = code.add(start, d)
                    two = [_load(code, a, keys, code.add(place, i64(i * lanes))) for i in (0, 1)]
                    rows.append(neighbours(code, *two))
                line = code.at(result, code.add(code.mul(d, i64(KEYS // 2)), k))
                for i, words in enumerate(code.transposed(rows)):
                    code.put_as(words, code.at(line, i * KEYS))

            code.loop(0, dim, 2 * lanes, channels)

        code.loop(0, count, lanes, some)

    return module.function(("pack keys", a), [PTR, I64, I64, PTR], body)


def _pack_values(module: Module, a: PromptAttention) -> Any:
    """The function (values, first, count, result): words [ceil(count / 2), channels]."""
    dim = a.shape.head_dim

    def body(code: Code, values: Value, first: Value, count: Value, result: Value) -> None:
        def pair(k: Value, _: tuple[Value, ...]) -> None:
            following = code.minimum(code.add(k, i64(1)), code.sub(count, i64(1)))
            starts = [code.mul(code.add(first, n), i64(dim)) for n in (k, following)]
            line = code.at(result, code.mul(k, i64(dim // 2)))
            for c in range(0, dim, code.lanes):
                two = [_load(code, a, values, code.add(start, i64(c))) for start in starts]
                code.put_as(pairs_of(code, *two), code.at(line, c))

        code.loop(0, count, 2, pair)

    return module.function(("pack values", a), [PTR, I64, I64, PTR], body)


def _tile(module: Module, a: PromptAttention, edge: bool) -> Any:
    """The function (queries, records, keys, values, weights, keys seen, place of the item's first token among
    the keys, number of the first row) that lets ROWS rows meet a block, at an `edge` of what they see."""
    dim, words = a.shape.head_dim, a.shape.head_dim // 2

    def body(
        code: Code, queries: Value, records: Value, keys: Value, values: Value, weights: Value, seen: Value,
        position: Value, number: Value,
    ) -> None:  # fmt: skip
        rows = [code.at(queries, r * words) for r in range(ROWS)]
        lines = [code.at(weights, r * KEYS // 2) for r in range(ROWS)]

        def channel(d: Value, sums: tuple[Value, ...]) -> list[Value]:
            line = code.at(keys, code.mul(d, i64(KEYS)))
            loaded = [code.get_as(line, code.ints, i * code.lanes) for i in range(WIDE)]
            return _add_tile(code, sums, [code.get(row, d, I32) for row in rows], loaded)

        scores = code.loop(0, words, 1, channel, [code.zero] * (ROWS * WIDE))
        for r in range(ROWS):
            token = code.add(position, code.sdiv(code.add(number, i64(r)), i64(a.group))) if edge else None
            _meet(
                code,
                a,
                list(scores[r * WIDE : (r + 1) * WIDE]),
                code.at(records, r * a.record),
                lines[r],
                token,
            )
        for first in range(0, dim, WIDE * code.lanes):
            columns = range(first, min(dim, first + WIDE * code.lanes), code.lanes)

            def pair(j: Value, sums: tuple[Value, ...], columns: range = columns) -> list[Value]:
                line = code.at(values, code.mul(j, i64(dim)))
                loaded = [code.get_as(line, code.ints, c) for c in columns]
                return _add_tile(code, sums, [code.get(row, j, I32) for row in lines], loaded)

            places = [code.at(records, r * a.record + SUMS + c) for r in range(ROWS) for c in columns]
            factors = [code.splat(code.get(records, r * a.record + FACTOR)) for r in range(ROWS)]
            before = [code.fmul(code.get_vector(p), factors[i // len(columns)]) for i, p in enumerate(places)]
            count = code.lshr(code.add(seen, i64(1)), i64(1))
            for place, total in zip(places, code.loop(0, count, 1, pair, before), strict=True):
                code.put_vector(total, place)

    return module.function(("prompt tile", a, edge), [PTR] * 5 + [I64] * 3, body)


def _add_tile(code: Code, sums: tuple[Value, ...], factors: list[Value], loaded: list[Value]) -> list[Value]:
    """Sums of ROWS rows + their words · the vectors."""
    wide = [code.splat(f) for f in factors]
    return [
        add_products(code, total, wide[i // len(loaded)], loaded[i % len(loaded)])
        for i, total in enumerate(sums)
    ]


def _meet(
    code: Code, a: PromptAttention, scores: list[Value], record: Value, weights: Value, token: Value | None
) -> None:
    """Scores become weights 2^(score - largest); the record takes their sum, and what makes former sums fit.

    A record: the largest score so far, the factor for the sums over v, the sum of the weights by lanes, and
    the sums over v. `token` is the place of the row among the keys, where it does not see all of them.
    """
    shape, seen = a.shape, []
    if shape.softcap:
        capped = [math.tanh(code, code.fdiv(s, code.fill(shape.softcap))) for s in scores]
        scores = [code.fmul(s, code.fill(shape.softcap * LOG2_E)) for s in capped]
    if token is not None:
        end = code.add(token, i64(1))
        for i in range(WIDE):
            mask = code.below(code.sub(end, i64(i * code.lanes)))
            if shape.window:
                before = code.below(code.sub(end, i64(shape.window + i * code.lanes)))
                mask = code.and_(mask, code.not_(before))
            seen.append(mask)
        scores = [code.select(m, s, code.fill(UNSEEN)) for m, s in zip(seen, scores, strict=True)]
    low, high = code.larger(scores[0], scores[1]), code.larger(scores[2], scores[3])
    found, former = code.reduce(code.larger, code.larger(low, high)), code.get(record, TOP)
    top = code.select(code.fcmp_ordered(">", found, former), found, former)
    code.put(top, record, TOP)
    highest = code.splat(top)
    factor = math.exp2(code, code.fsub(code.splat(former), highest))
    code.put(code.extract_element(factor, I32(0)), record, FACTOR)
    values = [math.exp2(code, code.fsub(s, highest)) for s in scores]
    if seen:
        values = [code.select(m, v, code.zero) for m, v in zip(seen, values, strict=True)]
    total = code.fadd(code.fadd(values[0], values[1]), code.fadd(values[2], values[3]))
    code.put_vector(code.fma_(code.get_vector(record, TOTALS), factor, total), record, TOTALS)
    for i in (0, 2):
        code.put_as(neighbours(code, values[i], values[i + 1]), code.at(weights, i // 2 * code.lanes))
