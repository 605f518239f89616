"""One or two vectors of query rows meet a block of keys, with products of bf16.

A lane is a row of queries: words of keys and of values are broadcast, so that a row's largest score, its
weights and their sum need no other lane. Words hold two neighbouring channels of q and k, and two neighbouring
keys of the weights and v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Module, Value, f32, i64
from rlxflow.backends.cpu.kernels.bfloat import add_products, upper_halves
from rlxflow.backends.cpu.kernels.running_softmax import KEYS, Shape
from rlxflow.quick_dataclass import dataclass

LANES = 16
TALL = 8  # keys, or channels, whose sums are in registers at a time
UNSEEN, LOWEST = -1e30, -1e29  # of keys that are not seen, and before any is: both below all scores
LOG2_E = 1.4426950408889634
TOP, TOTALS, FROM, UP_TO, SUMS = range(0, 5 * LANES, LANES)  # words of a record, see `RoundedAttention`
ONES = 0x3F803F80  # two of bf16


@dataclass(frozen=True)
class RoundedAttention:
    """Attention of the `heads` neighbouring query heads of a key head. Strides are floats between tokens.

    See the op `attention` for `causal` and windows; `masked` by one float per key, with `sinks`; k and v are
    f16 if `half`. A row is a token and one of the heads. What LANES rows have gathered is their record: the
    largest score of each, the sum of its weights, the first key it sees and the one behind the last, and
    Σ weight·v, channel by channel.
    """

    shape: Shape
    heads: int
    causal: bool
    masked: bool
    sinks: bool
    half: bool
    q_stride: int
    k_stride: int
    v_stride: int
    out_stride: int

    @property
    def words(self) -> int:
        """Of a row of q or k."""
        return self.shape.head_dim // 2

    @property
    def record_words(self) -> int:
        return SUMS + LANES * self.shape.head_dim


def meet_block(module: Module, a: RoundedAttention, count: int, edge: bool) -> Any:
    """The function (queries, records, keys, values, scores, mask, first key, keys seen) that lets `count`
    vectors of rows meet a block; at an `edge`, some rows do not see some keys.

    queries: words [vectors of rows, channels / 2, LANES]; keys: words [KEYS, channels / 2]; values: words
    [channels / TALL, KEYS / 2, TALL]; scores: room for [KEYS, count, LANES].
    """
    width = count * LANES

    def body(
        code: Code, queries: Value, records: Value, keys: Value, values: Value, scores: Value, mask: Value,
        first: Value, seen: Value,
    ) -> None:  # fmt: skip
        own = [code.at(records, i * a.record_words) for i in range(count)]
        stop = seen if edge else i64(KEYS)
        former = [code.get_vector(record, TOP) for record in own]
        tops = _score(code, a, own, queries, keys, scores, mask, first, stop, edge)
        for record, top in zip(own, tops, strict=True):
            code.put_vector(top, record, TOP)
        factors = [math.exp2(code, code.fsub(f, t)) for f, t in zip(former, tops, strict=True)]
        pairs = code.lshr(code.add(stop, i64(1)), i64(1))

        def line(j: Value) -> Value:
            """Where the weights of a pair of keys are: in place of the scores of former ones."""
            return code.at(scores, code.mul(j, i64(width)))

        def weights(j: Value) -> list[Value]:
            two = [line(code.add(code.add(j, j), i64(k))) for k in (0, 1)]
            words = []
            for i, top in enumerate(tops):
                under = [code.fsub(code.get_vector(x, i * LANES), top) for x in two]
                pair = [math.exp2(code, x, math.EXP2_TO_CUT) for x in under]
                words.append(upper_halves(code, *pair))
            for i, word in enumerate(words):
                code.put_as(word, line(j), i * LANES)
            return words

        def add_values(c: int | Value, read: Any, totals: Sequence[Value] = ()) -> Sequence[Value]:
            """Σ weight·v of TALL channels from `c` on; and of the weights, if there are totals of them."""
            column = code.at(values, code.mul(i64(c), i64(KEYS // 2)))
            channels = [code.at(r, code.add(code.mul(i64(c), i64(LANES)), i64(SUMS))) for r in own]
            places = [code.at(place, n * LANES) for n in range(TALL) for place in channels]

            def pair(j: Value, sums: tuple[Value, ...]) -> list[Value]:
                vectors = read(j)
                words = [code.get(column, code.add(code.mul(j, i64(TALL)), i64(n)), I32) for n in range(TALL)]
                new = _add_tile(code, sums[: len(places)], words, vectors)
                rest = zip(sums[len(places) :], vectors, strict=False)
                return new + [add_products(code, t, v, code.fill_int(ONES)) for t, v in rest]

            before = [code.fmul(code.get_vector(p), factors[n % count]) for n, p in enumerate(places)]
            sums = code.loop(0, pairs, 1, pair, [*before, *totals])
            for place, total in zip(places, sums, strict=False):
                code.put_vector(total, place)
            return sums[len(places) :]

        # weights are made where they are needed first: units for sums work beside those for products
        totals = [code.fmul(code.get_vector(r, TOTALS), f) for r, f in zip(own, factors, strict=True)]
        for record, total in zip(own, add_values(0, weights, totals), strict=True):
            code.put_vector(total, record, TOTALS)

        def made(j: Value) -> list[Value]:
            return [code.get_as(line(j), code.ints, i * LANES) for i in range(count)]

        code.loop(TALL, a.shape.head_dim, TALL, lambda c, _: add_values(c, made) and None)

    return module.function(("bfloat tile", a, count, edge), [PTR] * 6 + [I64] * 2, body)


def _score(
    code: Code, a: RoundedAttention, records: Sequence[Value], queries: Value, keys: Value, scores: Value,
    mask: Value, first: Value, stop: Value, edge: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """Write the scores of `stop` keys; the largest so far."""
    count = len(records)
    rows = [code.at(queries, i * a.words * LANES) for i in range(count)]
    spans = [[code.get_as(r, code.ints, word) for word in (FROM, UP_TO)] for r in records] if edge else []

    def some(j: Value, tops: tuple[Value, ...]) -> list[Value]:
        def channel(d: Value, sums: tuple[Value, ...]) -> list[Value]:
            vectors = [code.get_as(row, code.ints, code.mul(d, i64(LANES))) for row in rows]
            words = [code.get(line, code.add(d, i64(n * a.words)), I32) for n in range(TALL)]
            return _add_tile(code, sums, words, vectors)

        line, best = code.at(keys, code.mul(j, i64(a.words))), list(tops)
        place = code.at(scores, code.mul(j, i64(count * LANES)))
        for n, score in enumerate(code.loop(0, a.words, 1, channel, [code.zero] * (TALL * count))):
            score, i = _capped(code, a.shape, score), n % count
            if edge:
                key = _number(code, a, mask, code.add(first, code.add(j, i64(n // count))))
                seen = code.icmp_signed("<", key, spans[i][1])
                if a.shape.window or a.masked:
                    seen = code.and_(seen, code.icmp_signed(">=", key, spans[i][0]))
                score = code.select(seen, score, code.fill(UNSEEN))
            code.put_vector(score, place, n * LANES)
            best[i] = code.larger(score, best[i])
        return best

    return code.loop(0, stop, TALL, some, [code.get_vector(record, TOP) for record in records])


def _add_tile(
    code: Code, sums: Sequence[Value], words: Sequence[Value], vectors: Sequence[Value]
) -> list[Value]:
    """Sums + every word · every vector."""
    count, wide = len(vectors), [code.splat(word) for word in words]
    return [add_products(code, t, vectors[n % count], wide[n // count]) for n, t in enumerate(sums)]


def _capped(code: Code, shape: Shape, score: Value) -> Value:
    if not shape.softcap:
        return score
    capped = math.tanh(code, code.fdiv(score, code.fill(shape.softcap)))
    return code.fmul(capped, code.fill(shape.softcap * LOG2_E))


def _number(code: Code, a: RoundedAttention, mask: Value, key: Value) -> Value:
    """The number of a key in every lane; -1 for one that is masked."""
    number = code.trunc(key, I32)
    if a.masked:
        valid = code.fcmp_ordered("!=", code.get(mask, key), f32(0.0))
        number = code.select(valid, number, I32(-1))
    return code.splat(number)
