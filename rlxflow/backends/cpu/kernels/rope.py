"""Rotary embedding of one head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from rlxflow.backends.cpu.code import Code, Index, Value
from rlxflow.backends.cpu.expression import FromArg, Operand, Step
from rlxflow.backends.cpu.kernels.kept_rows import KeptRow
from rlxflow.backends.cpu.kernels.reductions import Reduced
from rlxflow.backends.cpu.kernels.windows import column, windows

if TYPE_CHECKING:
    from rlxflow.backends.cpu.kernels.row_values import RowValues


def rotate_row(values: RowValues, step: Step, source: Operand) -> Reduced:
    """The rotation of the operand, in a row; see the op `rope` for the formula."""
    code, width = values.code, values.expression.segments[1]
    cos_arg, cos, sin = step.operands[1], *(values.row_of(o) for o in step.operands[1:])
    assert isinstance(cos_arg, FromArg)
    half = values.expression.args[cos_arg.number].stride
    whole = half % code.lanes == 0
    row, rotated = values.new_row(whole=whole), values.new_row(second=True, whole=whole)

    def keep(j: Index, lanes: int | None, _: Value) -> None:
        row.put(values.operand(source, j, lanes), j, lanes)

    def copy(j: Index, lanes: int | None, _: Value) -> None:
        rotated.put(row.get(j, lanes), j, lanes)

    windows(code, width, keep)
    if 2 * half < width:
        windows(code, width, copy)
    turn = _turn_neighbours if step.attr("interleaved") else _turn_halves
    turn(code, half, row, cos, sin, rotated)
    return Reduced(rotated, lambda x, _: x)


def _turn_halves(code: Code, half: int, row: KeptRow, cos: Value, sin: Value, rotated: KeptRow) -> None:
    """Pairs (i, i + half)."""

    def window(j: Index, lanes: int | None, _: Value) -> None:
        upper = column(code, j, half)
        a, b = row.get(j, lanes), row.get(upper, lanes)
        c, s = (code.get_vector(p, j, lanes) for p in (cos, sin))
        rotated.put(code.fsub(code.fmul(a, c), code.fmul(b, s)), j, lanes)
        rotated.put(code.fadd(code.fmul(b, c), code.fmul(a, s)), upper, lanes)

    windows(code, half, window)


def _turn_neighbours(code: Code, half: int, row: KeptRow, cos: Value, sin: Value, rotated: KeptRow) -> None:
    """Pairs (2i, 2i + 1): one vector of pairs at a time, its cos and sin spread to both of each."""
    lanes = code.lanes
    spread = ir.Constant(code.ints, [i // 2 for i in range(lanes)])
    swapped = ir.Constant(code.ints, [i ^ 1 for i in range(lanes)])
    signs = ir.Constant(code.vector, [-1.0 if i % 2 == 0 else 1.0 for i in range(lanes)])
    for j in range(0, 2 * half, lanes):
        count = min(lanes, 2 * half - j)
        x = row.get(j, None if count == lanes else count)
        c, s = (code.get_vector(p, j // 2, count // 2) for p in (cos, sin))
        c, s = (code.shuffle_vector(v, v, spread) for v in (c, s))
        other = code.fmul(code.shuffle_vector(x, x, swapped), signs)
        turned = code.fadd(code.fmul(x, c), code.fmul(other, s))
        rotated.put(turned, j, None if count == lanes else count)
