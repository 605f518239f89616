"""A vector of query rows meets a block of keys, with products of bf16.

A lane is a row of queries: words of keys and of values are broadcast, so that a row's largest score, its
weights and their sum need no other lane. Words hold two neighbouring channels of q and k, and two
neighbouring keys of the weights and v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Index, Module, Value, f32, i64
from rlxflow.backends.cpu.kernels.bfloat import add_products, upper_halves
from rlxflow.backends.cpu.kernels.head_group import result_words
from rlxflow.backends.cpu.kernels.running_softmax import Shape
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.quick_dataclass import dataclass

LANES = 16
KEYS = 128  # of a block
TALL = 8  # keys, or channels, whose sums are in registers at a time
UNSEEN, LOWEST = -1e30, -1e29  # of keys that are not seen, and before any is: both below all scores
LOG2_E = 1.4426950408889634
TOP, TOTALS, FROM, UP_TO, SUMS = range(0, 5 * LANES, LANES)  # words of a record, see `RoundedAttention`
ONES = 0x3F803F80  # two of bf16


@dataclass(frozen=True)
class RoundedAttention:
    """Attention of the `heads` neighbouring query heads of a key head. Strides are floats between tokens.

    With a `layout`, results are written so, and their stride is in words of it.

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
    layout: Layout | None = None

    @property
    def words(self) -> int:
        """Of a row of q or k."""
        return self.shape.head_dim // 2

    @property
    def record_words(self) -> int:
        return SUMS + LANES * self.shape.head_dim

    @property
    def result_words(self) -> int:
        """Of a token of the result."""
        return result_words(self.layout, self.heads * self.shape.head_dim)

    def query(self, code: Code, q: Value, row: Value) -> Value:
        """Where a row of q begins."""
        return self._row(code, q, self.q_stride, self.shape.head_dim, row)

    def result(self, code: Code, out: Value, row: Value) -> Value:
        """Where a row of the result begins; with a layout, about where."""
        return self._row(code, out, self.out_stride, self.result_words // self.heads, row)

    def _row(self, code: Code, x: Value, stride: int, width: int, row: Value) -> Value:
        token, head = code.sdiv(row, i64(self.heads)), code.srem(row, i64(self.heads))
        return code.at(x, code.add(code.mul(token, i64(stride)), code.mul(head, i64(width))))


def meet_block(module: Module, a: RoundedAttention, edge: bool) -> Any:
    """The function (queries, record, keys, values, scores, mask, q, out, first key, keys seen, row) that lets
    LANES rows from `row` on meet a block; at an `edge`, some rows do not see some keys.

    The rows of q and out are only fetched, see `_fetch`. queries: words [channels / 2, LANES]; keys: words
    [KEYS, channels / 2]; values: words [channels / TALL, KEYS / 2, TALL]; scores: room for [KEYS, LANES].
    """

    def body(
        code: Code, queries: Value, record: Value, keys: Value, values: Value, scores: Value, mask: Value,
        q: Value, out: Value, first: Value, seen: Value, row: Value,
    ) -> None:  # fmt: skip
        stop = seen if edge else i64(KEYS)
        former = code.get_vector(record, TOP)

        top = _score(code, a, record, queries, keys, scores, mask, first, stop, edge)
        code.put_vector(top, record, TOP)
        factor = math.exp2(code, code.fsub(former, top))
        pairs = code.lshr(code.add(stop, i64(1)), i64(1))

        def made(j: Value) -> Value:
            """Weights of a pair of keys."""
            return code.get_as(scores, code.ints, code.mul(j, i64(LANES)))

        def make(j: Value) -> Value:
            """The same, in place of the scores of former keys."""
            line = code.at(scores, code.mul(j, i64(2 * LANES)))
            under = [code.fsub(code.get_vector(line, i * LANES), top) for i in (0, 1)]
            words = upper_halves(code, *(math.exp2(code, x, math.EXP2_TO_CUT) for x in under))
            code.put_as(words, scores, code.mul(j, i64(LANES)))
            return words

        def add_values(c: Index, weights: Callable[[Value], Value], total: Sequence[Value] = ()) -> Value:
            """Σ weight·v of TALL channels from `c` on; and Σ weight, on top of a total."""
            _fetch(code, a, q, out, row, c, edge)
            column = code.at(values, code.mul(i64(c), i64(KEYS // 2)))
            sums = code.at(record, code.add(code.mul(i64(c), i64(LANES)), i64(SUMS)))

            def pair(j: Value, sums: tuple[Value, ...]) -> list[Value]:
                own, line = weights(j), code.at(column, code.mul(j, i64(TALL)))
                words = [code.splat(code.get(line, i, I32)) for i in range(TALL)]
                words += [code.fill_int(ONES)] * len(total)
                return [add_products(code, s, own, word) for s, word in zip(sums, words, strict=True)]

            before = [code.fmul(code.get_vector(sums, i * LANES), factor) for i in range(TALL)]
            after = code.loop(0, pairs, 1, pair, [*before, *total])
            for i in range(TALL):
                code.put_vector(after[i], sums, i * LANES)
            return after[-1]

        # weights are made where they are needed first: units for sums work beside those for products
        total = code.fmul(code.get_vector(record, TOTALS), factor)
        code.put_vector(add_values(0, make, [total]), record, TOTALS)
        code.loop(TALL, a.shape.head_dim, TALL, lambda c, _: add_values(c, made) and None)

    return module.function(("bfloat tile", a, edge), [PTR] * 8 + [I64] * 3, body)


def _fetch(code: Code, a: RoundedAttention, q: Value, out: Value, row: Value, c: Index, edge: bool) -> None:
    """Beside the sums of TALL channels from `c` on, begin to read some lines of the next LANES rows of q, and
    to own those of the result, which may be next."""
    for i in range(TALL):
        line, lines = code.add(i64(c), i64(i)), i64(a.shape.head_dim // LANES)
        number, d = code.add(row, code.sdiv(line, lines)), code.mul(code.srem(line, lines), i64(LANES))
        if edge:
            inside = code.minimum(d, a.result_words // a.heads - LANES)
            code.prefetch_to_write(a.result(code, out, number), inside)
        code.prefetch(a.query(code, q, code.add(number, i64(LANES))), d, near=False)


def _score(
    code: Code, a: RoundedAttention, record: Value, queries: Value, keys: Value, scores: Value, mask: Value,
    first: Value, stop: Value, edge: bool,
) -> Value:  # fmt: skip
    """Write the scores of `stop` keys; the largest so far."""
    start, end = (code.get_as(record, code.ints, word) if edge else None for word in (FROM, UP_TO))

    def some(j: Value, tops: tuple[Value, ...]) -> list[Value]:
        def channel(d: Value, sums: tuple[Value, ...]) -> list[Value]:
            query = code.get_as(queries, code.ints, code.mul(d, i64(LANES)))
            words = [code.get(line, code.add(d, i64(i * a.words)), I32) for i in range(TALL)]
            return [add_products(code, s, query, code.splat(w)) for s, w in zip(sums, words, strict=True)]

        line, top = code.at(keys, code.mul(j, i64(a.words))), tops[0]
        for i, score in enumerate(code.loop(0, a.words, 1, channel, [code.zero] * TALL)):
            number, score = code.add(j, i64(i)), _capped(code, a.shape, score)
            if edge:
                key = _number(code, a, mask, code.add(first, number))
                seen = code.icmp_signed("<", key, end)
                if a.shape.window or a.masked:
                    seen = code.and_(seen, code.icmp_signed(">=", key, start))
                score = code.select(seen, score, code.fill(UNSEEN))
            code.put_vector(score, scores, code.mul(number, i64(LANES)))
            top = code.larger(score, top)
        return [top]

    return code.loop(0, stop, TALL, some, [code.get_vector(record, TOP)])[0]


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
