"""Transposing a block of rows in registers."""

from __future__ import annotations

from rlxflow.backends.cpu.code import Code, Value, i64


def transpose_block(
    code: Code, source: Value, stride: Value, rows: Value, columns: int, result: Value, result_stride: Value
) -> None:
    """result[c, r] = source[r, c] for c < columns, squares of one vector at a time.

    `rows` is 1 or more; the last row is repeated up to a whole number of vectors, which `result_stride` must
    have room for.
    """
    lanes = code.lanes
    last = code.sub(rows, i64(1))

    def square(r: Value, _: tuple[Value, ...]) -> None:
        for c in range(0, columns, lanes):
            width = min(lanes, columns - c)
            picked = [code.minimum(code.add(r, i64(i)), last) for i in range(lanes)]
            loaded = [code.get_vector(source, code.add(code.mul(p, stride), i64(c)), width) for p in picked]
            for i, column in enumerate(code.transposed(loaded)[:width]):
                code.put_vector(column, result, code.add(code.mul(i64(c + i), result_stride), r))

    code.loop(0, rows, lanes, square)
