"""Causal attention of many tokens over a cache, with products of bf16: twice the rate of f32.

q (scaled), k, v and the weights of a block of keys are rounded to bf16; scores, weights' sums and results are
summed in f32. A row of work is a token and one of the query heads of a key head; all rows of an item meet
every block of keys, a few rows at a time. Bytes of two bf16 make a word: neighbouring channels of q and k,
neighbouring keys of the weights and v.
"""

from __future__ import annotations

from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, HALF, I32, I64, PTR, Code, Module, Value, f32, i64
from rlxflow.backends.cpu.kernels.bfloat import add_products, has_bfloat_products, neighbours, pairs_of
from rlxflow.backends.cpu.kernels.head_group import HeadGroup
from rlxflow.backends.cpu.kernels.running_softmax import KEYS
from rlxflow.backends.cpu.target import Target

MOST_ROWS = 256  # of an item, which share the packed keys and values: so packing takes 6 % of its time
ROWS = 6  # of a tile: with four vectors of keys, 24 sums
WIDE = 4  # vectors of keys, or of channels, of a tile
UNSEEN = -1e30  # below all scores
LOG2_E = 1.4426950408889634
TOP, FACTOR, TOTALS, SUMS = 0, 1, 16, 32  # floats of a record: see `_meet`


def can_attend(target: Target, head_dim: int) -> bool:
    """Whether the processor has the products, and the head fits them."""
    return has_bfloat_products(target) and head_dim % 32 == 0


def _most_tokens(group: HeadGroup) -> int:
    return max(2, MOST_ROWS // group.heads)


def tokens_of_item(code: Code, group: HeadGroup, fair: Value) -> Value:
    """How many tokens an item has: a `fair` share, from half of the most to the most."""
    most = _most_tokens(group)
    least = i64(most // 2)
    return code.minimum(code.select(code.icmp_signed(">", fair, least), fair, least), most)


def _record_floats(group: HeadGroup) -> int:
    return SUMS + group.shape.head_dim


def places(group: HeadGroup) -> tuple[int, ...]:
    """Where in the scratch begin: queries, records, keys, values, weights, and its end; in floats."""
    words = group.shape.head_dim // 2
    rows = -(-_most_tokens(group) * group.heads // ROWS) * ROWS  # up to whole tiles
    sizes = (rows * words, rows * _record_floats(group), KEYS * words, KEYS * words, ROWS * KEYS // 2)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return tuple(starts)


def prompt_item(module: Module, group: HeadGroup) -> Any:
    """The function (q, keys, values, sinks, out, scratch, position of the first token, number of tokens)."""
    shape, dim, floats = group.shape, group.shape.head_dim, _record_floats(group)

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, out: Value, scratch: Value,
        position: Value, tokens: Value,
    ) -> None:  # fmt: skip
        queries, records, keys_t, pairs, weights, _ = (code.at(scratch, p) for p in places(group))
        rows = code.mul(tokens, i64(group.heads))

        def row_at(x: Value, stride: int, row: Value) -> Value:
            token, head = code.sdiv(row, i64(group.heads)), code.srem(row, i64(group.heads))
            return group.row(code, x, stride, token, head)

        def prepare(row: Value, _: tuple[Value, ...]) -> None:
            """Rows that fill up the last tile repeat the last one."""
            source = row_at(q, group.q_stride, code.minimum(row, code.sub(rows, i64(1))))
            _pack_row(code, group, source, code.at(queries, code.mul(row, i64(dim // 2))))
            record = code.at(records, code.mul(row, i64(floats)))
            for j in range(0, floats, code.lanes):
                code.put_vector(code.zero, record, j)
            code.put(f32(UNSEEN), record, TOP)
            if group.sinks:
                score = code.get(sinks, code.srem(row, i64(group.heads)))
                code.put(code.fmul(score, f32(LOG2_E)), record, TOP)
                code.put(f32(1.0), record, TOTALS)

        def block(first: Value, count: Value) -> None:
            code.call(_pack_keys(module, group), [keys, first, count, keys_t])
            code.call(_pack_values(module, group), [values, first, count, pairs])

            def tile(row: Value, _: tuple[Value, ...]) -> None:
                token = code.add(position, code.sdiv(row, i64(group.heads)))
                end = code.add(position, code.sdiv(code.add(row, i64(ROWS - 1)), i64(group.heads)))
                own = [
                    code.at(queries, code.mul(row, i64(dim // 2))),
                    code.at(records, code.mul(row, i64(floats))),
                ]
                seen = code.minimum(code.sub(code.add(end, i64(1)), first), count)
                edge = code.icmp_signed("<", code.sub(token, first), i64(KEYS - 1))
                if shape.window:
                    late = code.icmp_signed(">=", code.sub(end, first), i64(shape.window))
                    edge = code.or_(edge, late)
                arguments = [*own, keys_t, pairs, weights, seen, code.sub(position, first), row]
                some = code.icmp_signed(">", seen, i64(0))
                with code.if_then(some), code.if_else(edge) as (then, otherwise):
                    with then:
                        code.call(_tile(module, group, True), arguments)
                    with otherwise:
                        code.call(_tile(module, group, False), arguments)

            code.loop(0, rows, ROWS, tile)

        def finish(row: Value, _: tuple[Value, ...]) -> None:
            record = code.at(records, code.mul(row, i64(floats)))
            total = code.reduce(code.fadd, code.get_vector(record, TOTALS))
            inverse = code.splat(code.fdiv(f32(1.0), total))
            result = row_at(out, group.out_stride, row)
            for c in range(0, dim, code.lanes):
                code.put_vector(code.fmul(code.get_vector(record, SUMS + c), inverse), result, c)

        code.loop(0, code.mul(code.sdiv(code.add(rows, i64(ROWS - 1)), i64(ROWS)), i64(ROWS)), 1, prepare)
        group.every_block(code, position, tokens, block)
        code.loop(0, rows, 1, finish)

    return module.function(("prompt attention", group), [PTR] * 6 + [I64] * 2, body)


def _load(code: Code, group: HeadGroup, cache: Value, index: Value) -> Value:
    """A vector of a cache, as f32; the one of the next block is fetched meanwhile."""
    floats = KEYS * group.shape.head_dim // (2 if group.half else 1)
    code.prefetch(code.at(cache, index, HALF if group.half else F32), floats, near=False)
    return code.get_half(cache, index) if group.half else code.get_vector(cache, index)


def _pack_row(code: Code, group: HeadGroup, source: Value, result: Value) -> None:
    """A row of q, scaled; weights will be powers of 2."""
    factor = code.fill(group.shape.scale * (1 if group.shape.softcap else LOG2_E))
    for d in range(0, group.shape.head_dim, 2 * code.lanes):
        two = [code.fmul(code.get_vector(source, d + i * code.lanes), factor) for i in (0, 1)]
        code.put_as(neighbours(code, *two), code.at(result, d // 2))


def _pack_keys(module: Module, group: HeadGroup) -> Any:
    """The function (keys, first, count, result): words [channels / 2, KEYS]; the last key is repeated up to a
    whole vector."""
    dim = group.shape.head_dim

    def body(code: Code, keys: Value, first: Value, count: Value, result: Value) -> None:
        lanes, last = code.lanes, code.sub(count, i64(1))

        def some(k: Value, _: tuple[Value, ...]) -> None:
            numbers = [code.minimum(code.add(k, i64(i)), last) for i in range(lanes)]
            starts = [code.mul(code.add(first, n), i64(dim)) for n in numbers]

            def channels(d: Value, _: tuple[Value, ...]) -> None:
                rows = []
                for start in starts:
                    place = code.add(start, d)
                    two = [_load(code, group, keys, code.add(place, i64(i * lanes))) for i in (0, 1)]
                    rows.append(neighbours(code, *two))
                line = code.at(result, code.add(code.mul(d, i64(KEYS // 2)), k))
                for i, words in enumerate(code.transposed(rows)):
                    code.put_as(words, code.at(line, i * KEYS))

            code.loop(0, dim, 2 * lanes, channels)

        code.loop(0, count, lanes, some)

    return module.function(("pack keys", group), [PTR, I64, I64, PTR], body)


def _pack_values(module: Module, group: HeadGroup) -> Any:
    """The function (values, first, count, result): words [ceil(count / 2), channels]."""
    dim = group.shape.head_dim

    def body(code: Code, values: Value, first: Value, count: Value, result: Value) -> None:
        def pair(k: Value, _: tuple[Value, ...]) -> None:
            following = code.minimum(code.add(k, i64(1)), code.sub(count, i64(1)))
            starts = [code.mul(code.add(first, n), i64(dim)) for n in (k, following)]
            line = code.at(result, code.mul(k, i64(dim // 2)))
            for c in range(0, dim, code.lanes):
                two = [_load(code, group, values, code.add(start, i64(c))) for start in starts]
                code.put_as(pairs_of(code, *two), code.at(line, c))

        code.loop(0, count, 2, pair)

    return module.function(("pack values", group), [PTR, I64, I64, PTR], body)


def _tile(module: Module, group: HeadGroup, edge: bool) -> Any:
    """The function (queries, records, keys, values, weights, keys seen, place of the item's first token among
    the keys, number of the first row) that lets ROWS rows meet a block, at an `edge` of what they see."""
    dim, words, floats = group.shape.head_dim, group.shape.head_dim // 2, _record_floats(group)

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
            token = code.add(position, code.sdiv(code.add(number, i64(r)), i64(group.heads)))
            own = list(scores[r * WIDE : (r + 1) * WIDE])
            _meet(code, group, own, code.at(records, r * floats), lines[r], token if edge else None)
        for first in range(0, dim, WIDE * code.lanes):
            columns = range(first, min(dim, first + WIDE * code.lanes), code.lanes)

            def pair(j: Value, sums: tuple[Value, ...], columns: range = columns) -> list[Value]:
                line = code.at(values, code.mul(j, i64(dim)))
                loaded = [code.get_as(line, code.ints, c) for c in columns]
                return _add_tile(code, sums, [code.get(row, j, I32) for row in lines], loaded)

            places = [code.at(records, r * floats + SUMS + c) for r in range(ROWS) for c in columns]
            factors = [code.splat(code.get(records, r * floats + FACTOR)) for r in range(ROWS)]
            before = [code.fmul(code.get_vector(p), factors[i // len(columns)]) for i, p in enumerate(places)]
            count = code.lshr(code.add(seen, i64(1)), i64(1))
            for place, total in zip(places, code.loop(0, count, 1, pair, before), strict=True):
                code.put_vector(total, place)

    return module.function(("prompt tile", group, edge), [PTR] * 5 + [I64] * 3, body)


def _add_tile(code: Code, sums: tuple[Value, ...], factors: list[Value], loaded: list[Value]) -> list[Value]:
    """Sums of ROWS rows + their words · the vectors."""
    wide = [code.splat(f) for f in factors]
    return [
        add_products(code, total, wide[i // len(loaded)], loaded[i % len(loaded)])
        for i, total in enumerate(sums)
    ]


def _meet(
    code: Code, group: HeadGroup, scores: list[Value], record: Value, weights: Value, token: Value | None
) -> None:
    """Scores become weights 2^(score - largest); the record takes their sum, and what makes former sums fit.

    A record: the largest score so far, the factor for the sums over v, the sum of the weights by lanes, and
    the sums over v. `token` is the place of the row among the keys, where it does not see all of them.
    """
    shape, seen = group.shape, []
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
