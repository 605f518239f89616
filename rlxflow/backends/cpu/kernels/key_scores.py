"""q·k of a few query rows with a block of keys, in two ways.

Many queries meet transposed keys: a lane is a key. One query meets the keys as they lie: a lane is a channel,
and the lanes of as many keys as a vector has are added up together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, HALF, Code, Value, i64
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
    code: Code,
    head_dim: int,
    half: bool,
    queries: Sequence[Value],
    keys: Value,
    lines: Sequence[Value],
    count: Value,
) -> None:
    """keys: rows of `head_dim`, f16 if `half`; a last vector that is not full repeats the last key."""
    lanes, kind = code.lanes, HALF if half else F32
    whole = code.and_(count, i64(-lanes))
    places = [(d, min(lanes, head_dim - d)) for d in range(0, head_dim, lanes)]
    channels = [[code.get_vector(query, d, size) for d, size in places] for query in queries]
    load = code.get_half if half else code.get_vector

    def score(place: Value) -> list[Value]:
        """Sums that together are q·k, of every query."""
        code.in_order()  # keys are read as they lie in memory
        key = [load(place, d, size) for d, size in places]
        sums = [code.zero] * len(queries)
        for i, channel in enumerate(key):
            sums = [code.fma_(query[i], channel, sum_) for query, sum_ in zip(channels, sums, strict=True)]
        return sums

    def vector(places: Sequence[Value], j: Value) -> None:
        """The scores of as many keys as a vector has lanes, at place `j` of the lines."""
        for line, total in zip(lines, _totals(code, places, score), strict=True):
            code.put_vector(total, line, j)

    def row(number: Value) -> Value:
        return code.at(keys, code.mul(number, i64(head_dim)), kind)

    def full(j: Value, _: tuple[Value, ...]) -> None:
        vector([code.at(row(j), i * head_dim, kind) for i in range(lanes)], j)

    code.loop(0, whole, lanes, full)
    with code.if_then(code.icmp_signed("<", whole, count)):
        last = code.sub(count, i64(1))
        vector([row(code.minimum(code.add(whole, i64(i)), last)) for i in range(lanes)], whole)


def _totals(code: Code, items: Sequence[Value], sums: Callable[[Value], list[Value]]) -> list[Value]:
    """Of every vector that `sums` gives of an item, the sum of its lanes: lane i of the result is item i's.

    Halves of two vectors are added as soon as there are two, so that few are held at a time.
    """
    if len(items) == 1:
        return sums(items[0])
    middle = len(items) // 2
    halves = (_totals(code, part, sums) for part in (items[:middle], items[middle:]))
    return [_added_halves(code, code.lanes // middle, a, b) for a, b in zip(*halves, strict=True)]


def _added_halves(code: Code, size: int, a: Value, b: Value) -> Value:
    """Of runs of `size` lanes in two vectors, half as long ones: the two halves of each added, a's first."""
    lanes, half = code.lanes, size // 2
    low = [x for v in (0, lanes) for g in range(0, lanes, size) for x in range(v + g, v + g + half)]
    high = [x + half for x in low]
    return code.fadd(*(code.shuffle_vector(a, b, ir.Constant(code.ints, p)) for p in (low, high)))
