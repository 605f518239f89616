"""q·k of a few query rows with a block of keys, in two ways.

Many queries meet transposed keys: a lane is a key. One query meets the keys as they lie: a lane is a channel,
and the lanes of as many keys as a vector has are added up together.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, Code, Value, i64
from rlxflow.backends.cpu.kernels.running_softmax import AHEAD, KEYS

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
    whole = code.and_(count, i64(-lanes))

    def full(j: Value, _: tuple[Value, ...]) -> None:
        some = code.at(keys, code.mul(j, i64(head_dim)))
        rows = [code.at(some, i * head_dim) for i in range(lanes)]
        _score_vector(code, head_dim, queries, rows, lines, j)

    code.loop(0, whole, lanes, full)
    with code.if_then(code.icmp_signed("<", whole, count)):
        last = code.sub(count, i64(1))
        numbers = [code.minimum(code.add(whole, i64(i)), last) for i in range(lanes)]
        rows = [code.at(keys, code.mul(n, i64(head_dim))) for n in numbers]
        _score_vector(code, head_dim, queries, rows, lines, whole)


def _score_vector(
    code: Code,
    head_dim: int,
    queries: Sequence[Value],
    rows: Sequence[Value],
    lines: Sequence[Value],
    j: Value,
) -> None:
    """The scores of as many keys as a vector has lanes, at place `j` of the lines."""
    places = [(d, min(code.lanes, head_dim - d)) for d in range(0, head_dim, code.lanes)]
    for number, (query, line) in enumerate(zip(queries, lines, strict=True)):
        channels = [code.get_vector(query, d, count) for d, count in places]
        sums = []
        for row in rows:  # in the order of memory
            total = code.zero
            for (d, count), channel in zip(places, channels, strict=True):
                total = code.fma_(channel, code.get_vector(row, d, count), total)
                if number == 0:
                    code.prefetch(row, AHEAD + d, near=False)
            sums.append(total)
        code.put_vector(totals(code, sums), line, j)


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
