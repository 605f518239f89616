"""Causal attention of several tokens over a cache, with the sums that single tokens have.

Keys are transposed, and f16 ones widened, once for all tokens of an item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlxflow.backends.cpu.code import HALF, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.head_group import HeadGroup
from rlxflow.backends.cpu.kernels.key_scores import score_transposed
from rlxflow.backends.cpu.kernels.quantise import row_quantiser
from rlxflow.backends.cpu.kernels.running_softmax import KEYS, begin_record, finish_row, meet_block
from rlxflow.backends.cpu.kernels.transpose import transpose_block

TOKENS = 32  # of an item


def places(group: HeadGroup, query_rows: int) -> tuple[int, ...]:
    """Where in the scratch begin: scores, transposed keys, widened keys and values, records, the result of a
    token before it is quantised, and its end; in floats."""
    block = KEYS * (-(-group.shape.head_dim // 16) * 16)
    wide = block if group.half else 0
    records = TOKENS * group.heads * group.shape.record_floats
    plain = group.heads * group.shape.head_dim if group.layout else 0
    starts = [0]
    for size in (query_rows * KEYS, block, wide, wide, records, plain):
        starts.append(starts[-1] + size)
    return tuple(starts)


def several_item(module: Module, group: HeadGroup) -> Any:
    """The function (q, keys, values, sinks, out, scratch, position of the first token, number of tokens)."""
    shape, height = group.shape, module.target.query_rows

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, out: Value, scratch: Value,
        position: Value, tokens: Value,
    ) -> None:  # fmt: skip
        scores, keys_t, wide_keys, wide_values, records, plain, _ = (
            code.at(scratch, p) for p in places(group, height)
        )
        width = group.heads * shape.head_dim
        quantise = None if group.layout is None else row_quantiser(code, group.layout, width)

        def record(h: Value, i: Value) -> Value:
            return code.at(records, code.mul(code.add(code.mul(h, i64(TOKENS)), i), i64(shape.record_floats)))

        def every_row(run: Callable[[Value, Value], None], step: int) -> None:
            code.loop(
                0, group.heads, 1, lambda h, _: code.loop(0, tokens, step, lambda i, _: run(h, i)) and None
            )

        def block(first: Value, count: Value) -> None:
            k = _as_f32(code, group, keys, first, count, wide_keys)
            v = _as_f32(code, group, values, first, count, wide_values)
            transpose_block(code, k, i64(shape.head_dim), count, shape.head_dim, keys_t, i64(KEYS))

            def tile(h: Value, i: Value) -> None:
                own = [group.query(code, q, i, h), record(h, i)]
                rest = [keys_t, v, scores, count, first, code.add(position, i)]
                left = code.minimum(code.sub(tokens, i), height)
                code.choose(
                    left, range(1, height + 1), lambda n: code.call(_tile(module, group, n), [*own, *rest])
                )

            every_row(tile, height)

        def finish(i: Value, _: tuple[Value, ...]) -> None:
            place = group.result(code, out, i, i64(0))
            row = place if quantise is None else plain

            def one(h: Value, _: tuple[Value, ...]) -> None:
                finish_row(code, shape, record(h, i), code.at(row, code.mul(h, i64(shape.head_dim))))

            code.loop(0, group.heads, 1, one)
            if quantise is not None:
                quantise(plain, place)

        every_row(
            lambda h, i: begin_record(code, shape, record(h, i), code.get(sinks, h) if group.sinks else None),
            1,
        )
        group.every_block(code, position, tokens, block)
        code.loop(0, tokens, 1, finish)

    return module.function(("several tokens", group), [PTR] * 6 + [I64] * 2, body)


def _tile(module: Module, group: HeadGroup, rows: int) -> Any:
    """The function (q, records, transposed keys, values, scores, count, first key, position) that lets one
    head of consecutive tokens meet a block."""
    shape = group.shape

    def body(
        code: Code, q: Value, records: Value, keys: Value, values: Value, scores: Value, count: Value,
        first: Value, position: Value,
    ) -> None:  # fmt: skip
        queries = [code.at(q, r * group.q_stride) for r in range(rows)]
        own = [code.at(records, r * shape.record_floats) for r in range(rows)]
        positions = [code.add(position, i64(r)) for r in range(rows)]

        def score(code: Code, lines: Sequence[Value], count: Value) -> None:
            score_transposed(code, shape.head_dim, queries, keys, lines, count)

        meet_block(code, shape, scores, own, values, count, first, positions, score)

    return module.function(("tokens meet a block", group, rows), [PTR] * 5 + [I64] * 3, body)


def _as_f32(code: Code, group: HeadGroup, cache: Value, first: Value, count: Value, wide: Value) -> Value:
    """The rows of a block of keys or values: in place, or widened to `wide`."""
    source, head_dim = group.cached(code, cache, first), group.shape.head_dim
    if not group.half:
        return source

    def row(i: Value, _: tuple[Value, ...]) -> None:
        start = code.mul(i, i64(head_dim))
        line, target = code.at(source, start, HALF), code.at(wide, start)
        for d in range(0, head_dim, code.lanes):
            lanes = min(code.lanes, head_dim - d)
            code.put_vector(code.get_half(line, d, lanes), target, d, lanes)

    code.loop(0, count, 1, row)
    return wide
