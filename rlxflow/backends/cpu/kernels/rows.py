"""Row kernels: chains of elementwise ops, norms, gathers and pooling, evaluated row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlxflow.backends.cpu.code import F32, HALF, I32, PTR, Code, Index, Module, Value, i64
from rlxflow.backends.cpu.expression import Expression
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.row_values import RowValues, caller_row, sequence_of
from rlxflow.backends.cpu.kernels.windows import windows


@dataclass(frozen=True)
class Out:
    """Where rows are written: our buffers, an array of the caller (rows not padded), or a cache.

    A row [Hkv, D] goes to position past_len + s of a cache [B, Hkv, C, D]; `half` caches hold f16.
    """

    kind: Literal["buffer", "output", "cache"]
    stride: int
    half: bool = False


@dataclass(frozen=True)
class Rows:
    """What is computed, and where it is written."""

    expression: Expression
    out: Out


def row_kernel(module: Module, rows: Rows) -> Value:
    """The function (frame, out, args…) that writes this thread's share of the rows."""
    expression, out = rows.expression, rows.out
    domain = Frame.TOKENS if expression.domain == "token" else Frame.SEQUENCES
    count, width = expression.segments

    def body(code: Code, frame: Value, result: Value, *pointers: Value) -> None:
        def row(index: Value, _: tuple[Value, ...]) -> None:
            target, apart = _row_target(code, frame, rows, result, index)
            kind = HALF if out.half else F32

            def segment(number: Value, _: tuple[Value, ...]) -> None:
                values = RowValues(code, expression, frame, pointers, index, number)
                values.reduce_all()
                start = code.at(target, code.mul(number, apart), kind)

                def write(j: Index, lanes: int | None, _: Value) -> None:
                    put = code.put_half if out.half else code.put_vector
                    put(values.result(j, lanes), start, j, lanes)

                windows(code, width, write)

            code.loop(0, count, 1, segment)

        code.loop(*share(code, frame, read(code, frame, domain)), 1, row)

    return module.function(("rows", rows), [PTR] * (2 + len(expression.args)), body)


def _row_target(code: Code, frame: Value, rows: Rows, result: Value, index: Value) -> tuple[Value, Value]:
    """Where a row begins, and the elements between its segments."""
    out, (segments, width) = rows.out, rows.expression.segments
    if out.kind != "cache":
        domain = rows.expression.domain
        place = index if out.kind == "buffer" else caller_row(code, frame, domain, index)
        return code.at(result, code.mul(place, i64(out.stride))), i64(width)
    capacity = read(code, frame, Frame.CACHE_CAPACITY)
    position = code.wide(code.get(read(code, frame, Frame.POSITION), index, I32))
    batch = caller_row(code, frame, "sequence", sequence_of(code, frame, index))
    head = code.mul(code.mul(batch, i64(segments)), capacity)
    place = code.mul(code.add(head, position), i64(width))
    return code.at(result, place, HALF if out.half else F32), code.mul(capacity, i64(width))
