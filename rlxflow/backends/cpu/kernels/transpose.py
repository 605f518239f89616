"""Transposing blocks of rows, a square of vectors in registers at a time."""

from __future__ import annotations

from typing import Any

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64


def transpose_block(
    code: Code, source: Value, stride: Value, rows: Value, columns: int, result: Value, result_stride: Value
) -> None:
    """result[c, r] = source[r, c] for c < columns.

    `rows` is 1 or more; the last row is repeated up to a whole number of vectors, which `result_stride` must
    have room for.
    """
    lanes = code.lanes

    def strip(r: Value, _: tuple[Value, ...]) -> None:
        line = code.at(source, code.mul(r, stride))
        left = code.sub(rows, r)

        def full(c: Value, _: tuple[Value, ...]) -> None:
            place = code.at(result, code.add(code.mul(c, result_stride), r))
            code.call(square(code.owner, lanes), [code.at(line, c), stride, left, place, result_stride])

        whole = columns // lanes * lanes
        code.loop(0, whole, lanes, full)
        if columns % lanes:
            place = code.at(result, code.add(code.mul(i64(whole), result_stride), r))
            tail = square(code.owner, columns % lanes)
            code.call(tail, [code.at(line, whole), stride, left, place, result_stride])

    code.loop(0, rows, lanes, strip)


def square(module: Module, width: int) -> Any:
    """The function (source, stride, rows, result, result stride) that moves up to `lanes` rows of `width`."""
    lanes = module.target.lanes

    def body(
        code: Code, source: Value, stride: Value, rows: Value, result: Value, result_stride: Value
    ) -> None:
        last = code.sub(rows, i64(1))
        picked = [code.mul(code.minimum(i64(i), last), stride) for i in range(lanes)]
        loaded = [code.get_vector(source, p, width) for p in picked]
        for i, column in enumerate(code.transposed(loaded)[:width]):
            code.put_vector(column, result, code.mul(i64(i), result_stride))

    return module.function(("square", width), [PTR, I64, I64, PTR, I64], body)
