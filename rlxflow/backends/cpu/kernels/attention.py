"""Attention over whole sequences of any length, reading queries, keys and values in place.

Per sequence and key head: K is transposed into scratch; then, for a few queries at a time, the scores of all
keys are kept in scratch, soft-maxed with their maximum subtracted, and multiplied with V. Every query sums
over keys in one order, whoever shares its tile. Where the profile lets products be rounded, longer sequences
take `bfloat_attention.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, I32, I64, PTR, Code, Module, Value, f32, i64
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels import bfloat_attention
from rlxflow.backends.cpu.kernels.bfloat_attention import bfloat_item
from rlxflow.backends.cpu.kernels.bfloat_tile import RoundedAttention
from rlxflow.backends.cpu.kernels.running_softmax import Shape
from rlxflow.backends.cpu.kernels.transpose import transpose_block
from rlxflow.backends.cpu.relative_bias import half_width, row_width
from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass

ROUNDED = 16  # tokens of a sequence from which on products may be rounded: fewer leave lanes empty
SOFTMAX_ROWS = 4  # whose weights are made side by side: one alone waits for its own results


@dataclass(frozen=True)
class Attention:
    """See the op `attention` for the meaning; strides are floats between tokens.

    `bias_reach` > 0: scores get a bias by head and distance, see `relative_bias.py`. Of `sinks` there is one
    per head. With `apart`, keys and values are of other tokens than the queries. `bf16` allows products of
    bf16.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    causal: bool
    window: int
    softcap: float
    masked: bool
    q_stride: int
    k_stride: int
    v_stride: int
    out_stride: int
    bias_reach: int = 0
    sinks: bool = False
    apart: bool = False
    bf16: bool = False

    @property
    def rounded(self) -> RoundedAttention:
        """The same with products of bf16."""
        shape = Shape(self.head_dim, self.scale, self.window, self.softcap)
        return RoundedAttention(
            shape, self.heads // self.kv_heads, self.causal, self.masked, self.sinks,
            half=False, q_stride=self.q_stride, k_stride=self.k_stride, v_stride=self.v_stride,
            out_stride=self.out_stride,
        )  # fmt: skip

    def rounds(self, target: Target) -> bool:
        """Whether longer sequences are attended to with products of bf16."""
        return self.bf16 and not self.bias_reach and bfloat_attention.can_attend(target, self.head_dim)


def scratch_per_token(attention: Attention, query_rows: int) -> int:
    """Floats of scratch per token of the longest sequence, which is padded to whole vectors."""
    return attention.head_dim + query_rows


def scratch_floats(attention: Attention, target: Target) -> int:
    """Floats of scratch of sequences of any length."""
    return bfloat_attention.places(attention.rounded)[-1] if attention.rounds(target) else 0


def attention_kernel(module: Module, a: Attention) -> Value:
    """The function (frame, q, k, v, mask, bias, sinks, frame of keys, out): this thread's share of (sequence,
    key head)."""
    group = a.heads // a.kv_heads

    def body(
        code: Code, frame: Value, q: Value, k: Value, v: Value, mask: Value, bias: Value, sinks: Value,
        key_frame: Value, out: Value,
    ) -> None:  # fmt: skip
        def tokens_of(frame: Value, sequence: Value) -> tuple[Value, Value]:
            """The first token of a sequence, counted over the call, and how many it has."""
            offsets = read(code, frame, Frame.OFFSETS)
            start = code.wide(code.get(offsets, sequence, I32))
            stop = code.wide(code.get(offsets, code.add(sequence, i64(1)), I32))
            return start, code.sub(stop, start)

        def item(number: Value, _: tuple[Value, ...]) -> None:
            sequence, kv_head = code.sdiv(number, i64(a.kv_heads)), code.srem(number, i64(a.kv_heads))
            start, count = tokens_of(frame, sequence)
            row = code.sub(start, read(code, frame, Frame.FIRST_TOKEN))
            key_row, length = row, count
            if a.apart:
                key_row, length = tokens_of(key_frame, sequence)
                key_row = code.sub(key_row, read(code, key_frame, Frame.FIRST_TOKEN))
            head = code.mul(kv_head, i64(group))

            def place(x: Value, stride: int, row: Value, head: Value) -> Value:
                return code.at(x, code.add(code.mul(row, i64(stride)), code.mul(head, i64(a.head_dim))))

            own_bias = code.at(bias, code.mul(head, i64(row_width(a.bias_reach, code.lanes))))
            arguments = [
                place(q, a.q_stride, row, head), place(k, a.k_stride, key_row, kv_head),
                place(v, a.v_stride, key_row, kv_head), code.at(mask, start),
                own_bias if a.bias_reach else bias, code.at(sinks, head) if a.sinks else sinks,
                place(out, a.out_stride, row, head), read(code, frame, Frame.SCRATCH), count, length,
            ]  # fmt: skip
            if not a.rounds(module.target):
                code.call(_f32_item(module, a), arguments)
                return
            many = code.icmp_signed(">=", count, i64(ROUNDED))
            with code.if_else(many) as (then, otherwise):
                with then:
                    code.call(_rounded_item(module, a), arguments)
                with otherwise:
                    code.call(_f32_item(module, a), arguments)

        items = code.mul(read(code, frame, Frame.SEQUENCES), i64(a.kv_heads))
        code.loop(*share(code, frame, items), 1, item)

    return module.function(("attention", a), [PTR] * 9, body)


def _rounded_item(module: Module, a: Attention) -> Value:
    """See `_f32_item`."""

    def body(
        code: Code, q: Value, k: Value, v: Value, mask: Value, _: Value, sinks: Value, out: Value,
        scratch: Value, count: Value, length: Value,
    ) -> None:  # fmt: skip
        most = bfloat_attention.most_tokens(a.heads // a.kv_heads)

        def some(i: Value, _: tuple[Value, ...]) -> None:
            queries, results = (
                code.at(x, code.mul(i, i64(s))) for x, s in ((q, a.q_stride), (out, a.out_stride))
            )
            tokens = code.minimum(code.sub(count, i), most)
            arguments = [queries, k, v, mask, sinks, results, scratch, i, tokens, length]
            code.call(bfloat_item(module, a.rounded), arguments)

        code.loop(0, count, most, some)

    return module.function(("rounded item", a), [PTR] * 8 + [I64] * 2, body)


def _f32_item(module: Module, a: Attention) -> Value:
    """The function (q, k, v, mask, bias, sinks, out, scratch, tokens, keys) for the query heads of a key
    head of a sequence."""

    def body(
        code: Code, q: Value, k: Value, v: Value, mask: Value, bias: Value, sinks: Value, out: Value,
        scratch: Value, count: Value, length: Value,
    ) -> None:  # fmt: skip
        padded = code.and_(code.add(length, i64(code.lanes - 1)), i64(-code.lanes))
        scores = code.at(scratch, code.mul(padded, i64(a.head_dim)))
        transpose_block(code, k, i64(a.k_stride), length, a.head_dim, scratch, padded)

        def head(h: Value, _: tuple[Value, ...]) -> None:
            queries, results = (code.at(x, code.mul(h, i64(a.head_dim))) for x in (q, out))
            own_bias = code.at(bias, code.mul(h, i64(row_width(a.bias_reach, code.lanes))))

            def tile(i: Value, _: tuple[Value, ...]) -> None:
                rows = code.minimum(code.sub(count, i), module.target.query_rows)
                arguments = [
                    code.at(queries, code.mul(i, i64(a.q_stride))), scratch, v, mask,
                    own_bias if a.bias_reach else bias, code.at(sinks, h) if a.sinks else sinks,
                    code.at(results, code.mul(i, i64(a.out_stride))), scores, i, length, padded,
                ]  # fmt: skip
                heights = range(1, module.target.query_rows + 1)
                code.choose(rows, heights, lambda n: code.call(_tile(module, a, n), arguments))

            code.loop(0, count, module.target.query_rows, tile)

        code.loop(0, a.heads // a.kv_heads, 1, head)

    return module.function(("f32 item", a), [PTR] * 8 + [I64] * 2, body)


def _tile(module: Module, a: Attention, rows: int) -> Value:
    """The function (q, kᵀ, v, mask, bias, sink, out, scores, first query, length, padded)."""

    def body(
        code: Code, q: Value, keys: Value, v: Value, mask: Value, bias: Value, sink: Value, out: Value,
        scores: Value, first: Value, length: Value, padded: Value,
    ) -> None:  # fmt: skip
        lines = [code.at(scores, code.mul(i64(r), padded)) for r in range(rows)]

        def chunk(j: Value, tops: tuple[Value, ...]) -> list[Value]:
            found = _products(code, a, q, keys, padded, j, rows)
            shaped = []
            for r in range(rows):
                query = code.add(first, i64(r))
                seen = _visible(code, a, mask, j, query, length)
                score = _biased(code, a, _shaped(code, a, found[r]), bias, code.sub(j, query))
                shaped.append(code.select(seen, score, code.fill(float("-inf"))))
            for line, score in zip(lines, shaped, strict=True):
                code.put_vector(score, line, j)
            return [code.larger(score, top) for score, top in zip(shaped, tops, strict=True)]

        extra = code.splat(code.get(sink)) if a.sinks else None
        lowest = code.fill(float("-inf")) if extra is None else extra
        tops = code.loop(0, padded, code.lanes, chunk, [lowest] * rows)
        inverses = []
        for r in range(0, rows, SOFTMAX_ROWS):
            inverses += _softmax(code, lines[r : r + SOFTMAX_ROWS], tops[r : r + SOFTMAX_ROWS], padded, extra)
        _weighted(code, a, lines, inverses, v, out, length)

    return module.function(("attention tile", a, rows), [PTR] * 8 + [I64] * 3, body)


def _products(
    code: Code, a: Attention, q: Value, keys: Value, padded: Value, j: Value, rows: int
) -> tuple[Value, ...]:
    """q·kᵀ of some queries with a vector of keys."""

    def step(d: Value, sums: tuple[Value, ...]) -> list[Value]:
        key = code.get_vector(keys, code.add(code.mul(d, padded), j))
        lines = [code.at(q, code.add(d, i64(r * a.q_stride))) for r in range(rows)]
        return [code.fma_(code.splat(code.get(lines[r], 0, F32)), key, sums[r]) for r in range(rows)]

    return code.loop(0, a.head_dim, 1, step, [code.zero] * rows)


def _shaped(code: Code, a: Attention, score: Value) -> Value:
    score = code.fmul(score, code.fill(a.scale))
    if a.softcap:
        capped = math.tanh(code, code.fdiv(score, code.fill(a.softcap)))
        score = code.fmul(capped, code.fill(a.softcap))
    return score


def _biased(code: Code, a: Attention, score: Value, bias: Value, distance: Value) -> Value:
    """Scores of keys that begin at this distance from their query, with their biases."""
    if not a.bias_reach:
        return score
    start = half_width(a.bias_reach, code.lanes)
    nearest = code.select(code.icmp_signed("<", distance, i64(-start)), i64(-start), distance)
    column = code.add(code.minimum(nearest, i64(a.bias_reach)), i64(start))
    return code.fadd(score, code.get_vector(bias, column))


def _visible(code: Code, a: Attention, mask: Value, j: Value, query: Value, length: Value) -> Value:
    """Mask of the keys j, j + 1, … that a query sees: decided by position, never by value."""
    end = code.sub(length, j)
    if a.causal:
        end = code.minimum(end, code.add(code.sub(query, j), i64(1)))
    elif a.window:
        end = code.minimum(end, code.add(code.sub(query, j), i64(a.window + 1)))
    seen = code.below(end)
    if a.window:
        reach = a.window - 1 if a.causal else a.window
        seen = code.and_(seen, code.not_(code.below(code.sub(code.sub(query, i64(reach)), j))))
    if a.masked:
        seen = code.and_(seen, code.fcmp_ordered("!=", code.get_vector(mask, j), code.zero))
    return seen


def _softmax(
    code: Code, lines: Sequence[Value], tops: Sequence[Value], padded: Value, extra: Value | None
) -> list[Value]:
    """Scores become exp(score − top), `tops` being the top of every lane; 1 / their sums, 0-safe, splat.

    The sums have one for the score `extra`, where there is one.
    """
    highest = []
    for top in tops:
        one = code.reduce(code.larger, top)
        none = code.fcmp_ordered("==", one, f32(float("-inf")))  # no key is seen
        highest.append(code.splat(code.select(none, f32(0.0), one)))

    def step(j: Value, sums: tuple[Value, ...]) -> list[Value]:
        scores = [code.get_vector(line, j) for line in lines]
        weights = [math.exp(code, code.fsub(s, h)) for s, h in zip(scores, highest, strict=True)]
        for line, weight in zip(lines, weights, strict=True):
            code.put_vector(weight, line, j)
        return [code.fadd(sum_, weight) for sum_, weight in zip(sums, weights, strict=True)]

    starts = [code.zero] * len(lines)
    if extra is not None:
        own = [math.exp(code, code.fsub(extra, h)) for h in highest]
        starts = [code.select(code.first(1), weight, code.zero) for weight in own]
    inverses = []
    for sums in code.loop(0, padded, code.lanes, step, starts):
        total = code.reduce(code.fadd, sums)
        empty = code.fcmp_ordered("==", total, f32(0.0))
        inverses.append(code.splat(code.fdiv(f32(1.0), code.select(empty, f32(1.0), total))))
    return inverses


def _weighted(
    code: Code,
    a: Attention,
    lines: Sequence[Value],
    inverses: Sequence[Value],
    v: Value,
    out: Value,
    length: Value,
) -> None:
    """out[r] = Σ weight[r, j] · v[j] / total[r], a few vectors of columns at a time."""
    width = max(1, (2 * code.owner.target.tile_rows) // len(lines))
    starts = range(0, a.head_dim, code.lanes)
    for first in range(0, len(starts), width):
        columns = [(c, min(code.lanes, a.head_dim - c)) for c in starts[first : first + width]]

        def step(j: Value, sums: tuple[Value, ...], columns: list[tuple[int, int]] = columns) -> list[Value]:
            row = code.at(v, code.mul(j, i64(a.v_stride)))
            values = [code.get_vector(row, c, lanes) for c, lanes in columns]
            new = []
            for r, line in enumerate(lines):
                weight = code.splat(code.get(line, j))
                for i, value in enumerate(values):
                    new.append(code.fma_(weight, value, sums[r * len(values) + i]))
            return new

        sums = code.loop(0, length, 1, step, [code.zero] * (len(lines) * len(columns)))
        for r in range(len(lines)):
            for i, (c, lanes) in enumerate(columns):
                value = code.fmul(sums[r * len(columns) + i], inverses[r])
                code.put_vector(value, out, r * a.out_stride + c, lanes)
