"""Attention of a few query rows to one block of keys after the other, with a running maximum.

What a row has gathered so far is its *record*: the largest score, the sum of weights exp(score − largest),
and Σ weight·v over the keys seen. A row meets the blocks in order, whoever shares its tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, HALF, I64, PTR, Code, Module, Value, f32, i64
from rlxflow.quick_dataclass import dataclass

KEYS = 64  # of a block
TOP, TOTAL, FACTOR, SUMS = (
    0,
    1,
    2,
    16,
)  # floats of a record: largest score, sum, scratch, then the sums over v
INFINITY = float("inf")


@dataclass(frozen=True)
class Shape:
    """What tiles must know of an attention; `window` and `softcap` are 0 for none."""

    head_dim: int
    scale: float
    window: int
    softcap: float

    @property
    def record_floats(self) -> int:
        return SUMS + -(-self.head_dim // 16) * 16


# (code, scores line per row, number of keys): the scores q·k of every row with the keys of the block
Scorer = Callable[[Code, Sequence[Value], Value], None]


def begin_record(code: Code, shape: Shape, record: Value, sink: Value | None = None) -> None:
    """Nothing has been seen, or the score `sink` of a key without a value."""
    for j in range(0, shape.record_floats, code.lanes):
        code.put_vector(code.zero, record, j)
    code.put(f32(-INFINITY) if sink is None else sink, record, TOP)
    if sink is not None:
        code.put(f32(1.0), record, TOTAL)


def meet_block(
    code: Code,
    shape: Shape,
    scores: Value,
    records: Sequence[Value],
    values: Value,
    count: Value,
    first_key: Value,
    positions: Sequence[Value],
    score: Scorer,
    half: bool = False,
) -> None:
    """Take the `count` keys from position `first_key` on into the records of some rows at these positions.

    `scores` has room for KEYS floats per row; values: rows of `head_dim`, f16 if `half`.
    """
    lines = [code.at(scores, r * KEYS) for r in range(len(records))]
    score(code, lines, count)
    for line, record, position in zip(lines, records, positions, strict=True):
        end = code.minimum(code.add(code.sub(position, first_key), i64(1)), count)
        start = code.sub(code.add(code.sub(position, first_key), i64(1)), i64(shape.window))
        code.call(_weights(code.owner, shape), [line, record, start, end, count])
    _add_values(code, shape, lines, records, values, count, half)


def _weights(module: Module, shape: Shape) -> Any:
    """The function (line, record, start, end, count): scores of keys from `start` up to `end` become weights,
    those of the others zero."""

    def body(code: Code, line: Value, record: Value, start: Value, end: Value, count: Value) -> None:
        def shaped(j: Value, tops: tuple[Value, ...]) -> tuple[Value, ...]:
            score = code.fmul(code.get_vector(line, j), code.fill(shape.scale))
            if shape.softcap:
                capped = math.tanh(code, code.fdiv(score, code.fill(shape.softcap)))
                score = code.fmul(capped, code.fill(shape.softcap))
            seen = code.below(code.sub(end, j))
            if shape.window:
                seen = code.and_(seen, code.not_(code.below(code.sub(start, j))))
            score = code.select(seen, score, code.fill(-INFINITY))
            code.put_vector(score, line, j)
            return (code.larger(score, tops[0]),)

        (tops,) = code.loop(0, count, code.lanes, shaped, (code.fill(-INFINITY),))
        before = code.get(record, TOP)
        found = code.reduce(code.larger, tops)
        top = code.select(code.fcmp_ordered(">", found, before), found, before)
        code.put(top, record, TOP)
        none = code.fcmp_ordered("==", top, f32(-INFINITY))
        highest = code.splat(code.select(none, f32(0.0), top))
        factor = math.exp(code, code.fsub(code.splat(before), highest))
        code.put_vector(factor, record, FACTOR, 1)

        def weight(j: Value, sums: tuple[Value, ...]) -> tuple[Value, ...]:
            w = math.exp(code, code.fsub(code.get_vector(line, j), highest))
            code.put_vector(w, line, j)
            return (code.fadd(sums[0], w),)

        (sums,) = code.loop(0, count, code.lanes, weight, (code.zero,))
        total = code.fmul(code.get(record, TOTAL), code.get(record, FACTOR))
        code.put(code.fadd(total, code.reduce(code.fadd, sums)), record, TOTAL)

    return module.function(("weights", shape), [PTR, PTR, I64, I64, I64], body)


def _add_values(
    code: Code,
    shape: Shape,
    lines: Sequence[Value],
    records: Sequence[Value],
    values: Value,
    count: Value,
    half: bool,
) -> None:
    """sums = factor · sums + Σ weight·v, a few vectors of columns at a time."""
    width = max(1, (2 * code.owner.target.tile_rows) // len(lines))
    starts = range(0, shape.head_dim, code.lanes)
    load = code.get_half if half else code.get_vector
    for first in range(0, len(starts), width):
        columns = [(c, min(code.lanes, shape.head_dim - c)) for c in starts[first : first + width]]

        def step(j: Value, sums: tuple[Value, ...], columns: list[tuple[int, int]] = columns) -> list[Value]:
            row = code.at(values, code.mul(j, i64(shape.head_dim)), HALF if half else F32)
            loaded = [load(row, c, lanes) for c, lanes in columns]
            new = []
            for r, line in enumerate(lines):
                weight = code.splat(code.get(line, j))
                for i, value in enumerate(loaded):
                    new.append(code.fma_(weight, value, sums[r * len(loaded) + i]))
            return new

        before = []
        for record in records:
            factor = code.splat(code.get(record, FACTOR))
            before += [code.fmul(code.get_vector(record, SUMS + c), factor) for c, _ in columns]
        sums = code.loop(0, count, 1, step, before)
        for r, record in enumerate(records):
            for i, (c, _) in enumerate(columns):
                code.put_vector(sums[r * len(columns) + i], record, SUMS + c)


def finish_row(code: Code, shape: Shape, record: Value, out: Value) -> None:
    """out = sums / total; zeros for a row that has seen nothing."""
    total = code.get(record, TOTAL)
    empty = code.fcmp_ordered("==", total, f32(0.0))
    inverse = code.splat(code.fdiv(f32(1.0), code.select(empty, f32(1.0), total)))
    for c in range(0, shape.head_dim, code.lanes):
        value = code.fmul(code.get_vector(record, SUMS + c), inverse)
        code.put_vector(value, out, c, min(code.lanes, shape.head_dim - c))
