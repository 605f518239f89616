"""q·k of a few query rows with a block of keys, in two ways.

Many queries meet transposed keys: a lane is a key. One query meets the keys as they lie: a lane is a channel,
and the lanes of as many keys as a vector has are added up together.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, Code, Value, i64
from rlxflow.backends.cpu.kernels.running_softmax import KEYS

PAIR = 2  # vectors of keys that are scored at once


def score_transposed(
    code: Code, head_dim: int, queries: Sequence[Value], keys: Value, lines: Sequence[Value], count: Value
) -> None:
    """keys: [head_dim, KEYS]."""
    lanes = code.lanes

    def pair(j: Value, _: tuple[Value, ...]) -> None:
        def step(d: Value, sums: tuple[Value, ...]) -> list[Value]:
            row = code.at(keys, code.add(code.mul(d, i64(KEYS)), j))
            loaded = [code.get_vector(row, i * lanes) for i in range(PAIR)]
            new = []
            for r, query in enumerate(queries):
                factor = code.splat(code.get(query, d, F32))
                new += [code.fma_(factor, key, sums[PAIR * r + i]) for i, key in enumerate(loaded)]
            return new

        sums = code.loop(0, head_dim, 1, step, [code.zero] * (PAIR * len(queries)))
        for r, line in enumerate(lines):
            for i in range(PAIR):
                code.put_vector(sums[PAIR * r + i], line, code.add(j, i64(i * lanes)))

    code.loop(0, count, PAIR * lanes, pair)


def score_rows(
    code: Code, head_dim: int, queries: Sequence[Value], keys: Value, lines: Sequence[Value], count: Value
) -> None:
    """keys: rows of `head_dim`; of a last vector that is not full, the last key is repeated."""
    lanes = code.lanes
    last = code.sub(count, i64(1))

    def some(j: Value, _: tuple[Value, ...]) -> None:
        rows = []
        for i in range(lanes):
            number = code.minimum(code.add(j, i64(i)), last)
            rows.append(code.at(keys, code.mul(number, i64(head_dim))))
        for query, line in zip(queries, lines, strict=True):
            sums = [code.zero] * lanes
            for d in range(0, head_dim, code.lanes):
                count = min(code.lanes, head_dim - d)
                channels = code.get_vector(query, d, count)
                sums = [
                    code.fma_(channels, code.get_vector(row, d, count), s)
                    for row, s in zip(rows, sums, strict=True)
                ]
            code.put_vector(totals(code, sums), line, j)
        for row in rows:
            for d in range(0, head_dim, 16):
                code.prefetch(row, KEYS * head_dim + d)

    code.loop(0, count, lanes, some)


def totals(code: Code, vectors: Sequence[Value]) -> Value:
    """Lane i of the result is the sum of the lanes of vector i: halves of two vectors are added at a time."""
    lanes, rows = code.lanes, vectors
    size = lanes  # lanes that belong to one vector
    while size > 1:
        half = size // 2
        low = [x for v in (0, lanes) for g in range(0, lanes, size) for x in range(v + g, v + g + half)]
        high = [x + half for x in low]
        pick = [ir.Constant(code.ints, p) for p in (low, high)]
        rows = [
            code.fadd(*(code.shuffle_vector(a, b, p) for p in pick))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
        size = half
    return rows[0]
