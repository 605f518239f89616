"""Row kernels: chains of elementwise ops, norms, gathers and pooling, evaluated row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rlxflow.backends.cpu.code import F32, HALF, I32, I64, PTR, Code, Index, Module, Value, i64
from rlxflow.backends.cpu.expression import Expression
from rlxflow.backends.cpu.frame import Frame, frame_of, read, share
from rlxflow.backends.cpu.kernels import row_values
from rlxflow.backends.cpu.kernels.quantise import row_quantiser
from rlxflow.backends.cpu.kernels.row_values import RowValues, caller_row, sequence_of
from rlxflow.backends.cpu.kernels.windows import windows
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Out:
    """Where rows are written: our buffers, an array of the caller (rows not padded), or a cache.

    A row [Hkv, D] goes to position past_len + s of a cache [B, Hkv, C, D]; `half` caches hold f16. A joined
    row goes behind the tokens of other axes, into a buffer of ours: `joint` is the axis of that and `before`
    are those in front, both counted from the own axis. With a `layout`, rows are quantised and written so.
    """

    kind: Literal["buffer", "output", "cache", "joined"]
    stride: int
    half: bool = False
    joint: int = 0
    before: tuple[int, ...] = ()
    layout: Layout | None = None


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
        quantise = None if out.layout is None else row_quantiser(code, out.layout, expression.width)
        behind = row_values.scratch_floats(expression, module.target.row_stride)
        plain = code.at(read(code, frame, Frame.SCRATCH), behind)
        first, last = share(code, frame, read(code, frame, domain))

        def row(index: Value, _: tuple[Value, ...]) -> None:
            ahead = code.zext(code.icmp_signed("<", code.add(index, i64(1)), last), I64)
            place, apart = _row_target(code, frame, rows, result, index)
            target = place if quantise is None else plain
            kind = HALF if out.half else F32

            def segment(number: Value, _: tuple[Value, ...]) -> None:
                values = RowValues(code, expression, frame, pointers, index, number, ahead)
                values.reduce_all()
                start = code.at(target, code.mul(number, apart), kind)

                def write(j: Index, lanes: int | None, _: Value) -> None:
                    put = code.put_half if out.half else code.put_vector
                    if target is place and out.kind == "buffer":
                        code.prefetch_to_write(start, code.add(i64(j), code.mul(ahead, i64(out.stride))))
                    put(values.result(j, lanes), start, j, lanes)

                windows(code, width, write)

            code.loop(0, count, 1, segment)
            if quantise is not None:
                quantise(plain, place)

        code.loop(first, last, 1, row)

    return module.function(("rows", rows), [PTR] * (2 + len(expression.args)), body)


def scratch_floats(rows: Rows, stride: Callable[[int], int]) -> int:
    """Scratch that a thread needs: that of the expression, and the row that is quantised."""
    own = row_values.scratch_floats(rows.expression, stride)
    return own + (stride(rows.expression.width) if rows.out.layout is not None else 0)


def _row_target(code: Code, frame: Value, rows: Rows, result: Value, index: Value) -> tuple[Value, Value]:
    """Where a row begins, and the elements between its segments."""
    out, (segments, width) = rows.out, rows.expression.segments
    if out.kind != "cache":
        domain = rows.expression.domain
        if out.kind == "joined":
            place = _joined_row(code, frame, out, index)
        else:
            place = index if out.kind == "buffer" else caller_row(code, frame, domain, index)
        return code.at(result, code.mul(place, i64(out.stride))), i64(width)
    capacity = read(code, frame, Frame.CACHE_CAPACITY)
    position = code.wide(code.get(read(code, frame, Frame.POSITION), index, I32))
    batch = caller_row(code, frame, "sequence", sequence_of(code, frame, index))
    head = code.mul(code.mul(batch, i64(segments)), capacity)
    place = code.mul(code.add(head, position), i64(width))
    return code.at(result, place, HALF if out.half else F32), code.mul(capacity, i64(width))


def _joined_row(code: Code, frame: Value, out: Out, index: Value) -> Value:
    """The row of a token among those of the joint axis: its sequence's first one, past those in front."""
    sequence = sequence_of(code, frame, index)

    def start(axis: int, number: Value) -> Value:
        own = frame_of(code, frame, axis)
        offset = code.wide(code.get(read(code, own, Frame.OFFSETS), number, I32))
        return code.sub(offset, read(code, own, Frame.FIRST_TOKEN))

    row = code.add(start(out.joint, sequence), code.sub(index, start(0, sequence)))
    for axis in out.before:
        row = code.add(row, code.sub(start(axis, code.add(sequence, i64(1))), start(axis, sequence)))
    return row
