"""Row kernels: chains of elementwise ops, norms, gathers and pooling, evaluated row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlxflow.backends.cpu.code import PTR, Code, Index, Module, Value, i64
from rlxflow.backends.cpu.expression import Expression
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.row_values import RowValues, caller_row
from rlxflow.backends.cpu.kernels.windows import windows


@dataclass(frozen=True)
class Out:
    """Where rows are written: our buffers, or an array of the caller (rows not padded)."""

    kind: Literal["buffer", "output"]
    stride: int


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
            place = index if out.kind == "buffer" else caller_row(code, frame, expression.domain, index)
            target = code.at(result, code.mul(place, i64(out.stride)))

            def segment(number: Value, _: tuple[Value, ...]) -> None:
                values = RowValues(code, expression, frame, pointers, index, number)
                values.reduce_all()
                start = code.at(target, code.mul(number, i64(width)))

                def write(j: Index, lanes: int | None, _: Value) -> None:
                    code.put_vector(values.result(j, lanes), start, j, lanes)

                windows(code, width, write)

            code.loop(0, count, 1, segment)

        code.loop(*share(code, frame, read(code, frame, domain)), 1, row)

    return module.function(("rows", rows), [PTR] * (2 + len(expression.args)), body)
