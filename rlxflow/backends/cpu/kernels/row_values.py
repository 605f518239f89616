"""The values of an expression at one row, a vector of columns at a time.

A reduction (a norm, a softmax) keeps its operand in a row, sums it there, and from then on is elementwise
too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rlxflow.backends.cpu.code import I32, I64, Code, Index, Value, f32, i64
from rlxflow.backends.cpu.expression import (
    PICKED,
    REDUCTIONS,
    WHOLE_ROW,
    Arg,
    Expression,
    FromArg,
    FromStep,
    Operand,
)
from rlxflow.backends.cpu.form import find_form
from rlxflow.backends.cpu.frame import Frame, read
from rlxflow.backends.cpu.kernels.elementwise import ELEMENTWISE
from rlxflow.backends.cpu.kernels.kept_rows import KeptRow
from rlxflow.backends.cpu.kernels.reductions import Reduced, reduce_row
from rlxflow.backends.cpu.kernels.rope import rotate_row
from rlxflow.backends.cpu.kernels.windows import few

SCRATCH_ROWS = 2  # per step that sees a whole row: its operand, and where needed its result
FIRST_ROW = {"token": Frame.FIRST_TOKEN, "sequence": Frame.FIRST_SEQUENCE}


def caller_row(code: Code, frame: Value, domain: str, row: Value) -> Value:
    """The row of the caller's arrays that a row of ours belongs to."""
    table = Frame.SOURCE if domain == "token" else Frame.BATCH_ROW
    return code.wide(code.get(read(code, frame, table), row, I32))


def sequence_of(code: Code, frame: Value, token: Value) -> Value:
    """The sequence row of a token row."""
    number = code.wide(code.get(read(code, frame, Frame.SEQUENCE), token, I32))
    return code.sub(number, read(code, frame, Frame.FIRST_SEQUENCE))


class RowValues:
    """The values of an expression in one segment of one row.

    With `ahead`, a number of rows, what is read of this row is fetched of the row so far behind it.
    """

    def __init__(
        self,
        code: Code,
        expression: Expression,
        frame: Value,
        pointers: Sequence[Value],
        row: Value,
        segment: Value,
        ahead: Value | None = None,
    ) -> None:
        self.code, self.expression, self.frame, self.row = code, expression, frame, row
        self._pointers = pointers
        self._segment, self._ahead = segment, ahead
        self._known: dict[int, Reduced | Value] = {}  # steps that are reduced, or given
        self._bases = [self._base(arg, p) for arg, p in zip(expression.args, pointers, strict=True)]
        for i, step in enumerate(expression.steps):
            if step.op in PICKED:
                self._known[i] = self._picked(step.op, step.operands)

    # -- rows ----------------------------------------------------------------------------------------

    def _base(self, arg: Arg, pointer: Value) -> Value:
        """The address of this row (and segment) of an arg."""
        code = self.code
        if arg.kind not in ("buffer", "constant", "input", "host"):
            return pointer
        if arg.rows != "none":
            pointer = code.at(pointer, code.mul(self._row_of(arg), i64(arg.stride)))
        last = arg.inner[-1] if arg.inner else 1
        return code.at(pointer, code.mul(self._segment_of(arg), i64(last)))

    def _row_of(self, arg: Arg) -> Value:
        code, frame, loop = self.code, self.frame, self.expression.domain
        if arg.kind == "host":
            own = self.row if arg.rows == loop else self._sequence()
            return code.add(own, read(code, frame, FIRST_ROW[arg.rows]))
        if arg.kind == "input" and arg.rows == loop:
            return caller_row(code, frame, loop, self.row)
        if arg.rows == "first":
            return self._tokens(self.row if loop == "sequence" else self._sequence())
        if arg.rows == loop:
            return self.row
        return (
            caller_row(code, frame, "sequence", self._sequence()) if arg.kind == "input" else self._sequence()
        )

    def _sequence(self) -> Value:
        """The sequence row of this token row."""
        return sequence_of(self.code, self.frame, self.row)

    def _tokens(self, sequence: Value) -> Value:
        """The first token row of a sequence."""
        code = self.code
        offset = code.wide(code.get(read(code, self.frame, Frame.OFFSETS), sequence, I32))
        return code.sub(offset, read(code, self.frame, Frame.FIRST_TOKEN))

    def _segment_of(self, arg: Arg) -> Value:
        """Which run of its last axis an arg has for this segment, by NumPy's broadcasting."""
        outer = self.expression.inner[:-1]
        if self.expression.segments[0] == 1 or len(arg.inner) < 2:
            return i64(0)
        if arg.inner[:-1] == outer:
            return self._segment
        code, rest, found, scale = self.code, self._segment, i64(0), 1
        own = (1,) * (len(outer) - len(arg.inner) + 1) + arg.inner[:-1]
        for full, size in zip(reversed(outer), reversed(own), strict=True):
            index, rest = code.srem(rest, i64(full)), code.sdiv(rest, i64(full))
            if size != 1:
                found = code.add(found, code.mul(index, i64(scale)))
            scale *= size
        return found

    def _picked(self, op: str, operands: tuple[Operand, ...]) -> Reduced:
        """A row of a table, picked by an id, or of one of the tokens of this sequence."""
        code = self.code
        source, ids = (o.number for o in operands if isinstance(o, FromArg))
        arg = self.expression.args[ids]
        kind = I64 if arg.dtype == "i64" else I32
        if arg.kind == "host":
            number = code.wide(code.get(self._pointers[ids], self._row_of(arg), kind))
        else:
            own = self.row if arg.rows == self.expression.domain else self._sequence()
            row = caller_row(code, self.frame, arg.rows, own)
            number = code.wide(code.get(self._pointers[ids], row, kind))
        if op == "select_token":
            number = code.add(number, self._tokens(self.row))
        table = self.expression.args[source]
        row = code.at(self._pointers[source], code.mul(number, i64(table.stride)))
        if table.form:
            unpack = find_form(table.form).row
            assert unpack is not None  # the planner chose a form that has it
            row = self._scratch()
            code.call(unpack(code.owner, table.stride), [self._pointers[source], number, row])
        row = code.at(row, code.mul(self._segment, i64(self.expression.segments[1])))
        return Reduced(KeptRow(code, row), lambda x, _: x)

    def _scratch(self, second: bool = False) -> Value:
        """Memory for the next step that sees a whole row."""
        stride = self.code.owner.target.row_stride(self.expression.scratch_width)
        scratch = read(self.code, self.frame, Frame.SCRATCH)
        return self.code.at(scratch, (SCRATCH_ROWS * len(self._known) + second) * stride)

    # -- values --------------------------------------------------------------------------------------

    def give(self, step: int, value: Value) -> None:
        """State the value of a step at the window that is asked for next."""
        self._known[step] = value

    def result(self, j: Index, lanes: int | None) -> Value:
        return self.value(len(self.expression.steps) - 1, j, lanes)

    def value(self, target: int, j: Index, lanes: int | None) -> Value:
        """Step `target` at columns j, j + 1, …; lanes beyond `lanes` hold anything."""
        found: dict[int, Value] = {}
        for i in self.expression.needed(target, frozenset(self._known)):
            known, step = self._known.get(i), self.expression.steps[i]

            def operand(o: Operand, found: dict[int, Value] = found) -> Value:
                return found[o.number] if isinstance(o, FromStep) else self._outside(o, j, lanes)

            if isinstance(known, Reduced):
                kept = known.row.get(j, lanes)
                rest = step.operands[1:] if step.op in REDUCTIONS else ()
                found[i] = known.finish(kept, [operand(o) for o in rest])
            elif known is not None:
                found[i] = known
            elif step.op == "mean_pool":
                found[i] = self._pooled(step.operands, j, lanes)
            else:
                found[i] = ELEMENTWISE[step.op](self.code, *(operand(o) for o in step.operands))
        return found[target]

    def _outside(self, source: Operand, j: Index, lanes: int | None) -> Value:
        """An operand that no step computes."""
        if isinstance(source, FromArg):
            return self._arg(source.number, j, lanes)
        return self.code.fill(source) if isinstance(source, float) else None

    def _arg(self, number: int, j: Index, lanes: int | None) -> Value:
        arg, base = self.expression.args[number], self._bases[number]
        code = self.code
        if self._is_long(number):
            if self._ahead is not None and arg.kind == "buffer" and arg.rows == self.expression.domain:
                behind = code.mul(self._ahead, i64(arg.stride))
                code.prefetch(base, code.add(i64(j), behind), near=False)
            return code.get_vector(base, j, lanes)
        return code.splat(code.get(base))

    def _is_long(self, number: int) -> bool:
        """Whether an arg has a number for every column, rather than one."""
        inner = self.expression.args[number].inner
        return math.prod(inner if self.expression.segments[0] == 1 else inner[-1:]) != 1

    def _pooled(self, operands: tuple[Operand, ...], j: Index, lanes: int | None) -> Value:
        """Σ m·x / max(Σ m, 1e-9) over the tokens of this sequence."""
        code = self.code
        x, mask = (o.number for o in operands if isinstance(o, FromArg))
        first = read(code, self.frame, Frame.FIRST_TOKEN)
        arg = self.expression.args[x]

        def token(t: Value, sums: tuple[Value, ...]) -> tuple[Value, ...]:
            valid = code.get(self._pointers[mask], code.add(t, first))
            row = code.at(self._pointers[x], code.mul(t, i64(arg.stride)))
            row = code.at(row, code.mul(self._segment, i64(self.expression.segments[1])))
            value = code.fmul(code.get_vector(row, j, lanes), code.splat(valid))
            return code.fadd(sums[0], value), code.fadd(sums[1], valid)

        start, stop = self._tokens(self.row), self._tokens(code.add(self.row, i64(1)))
        total, count = code.loop(start, stop, 1, token, (code.zero, f32(0.0)))
        some = code.select(code.fcmp_ordered(">", count, f32(1e-9)), count, f32(1e-9))
        return code.fdiv(total, code.splat(some))

    # -- reductions ----------------------------------------------------------------------------------

    def reduce_all(self) -> None:
        """Evaluate every step that sees a whole row, innermost first."""
        for i, step in enumerate(self.expression.steps):
            if step.op in WHOLE_ROW:
                whole = rotate_row if step.op == "rope" else reduce_row
                self._known[i] = whole(self, step, step.operands[0])

    def new_row(self, second: bool = False, whole: bool = True) -> KeptRow:
        """A row, or a second one, for the next such step; `whole` where its columns are those of windows."""
        in_registers = whole and few(self.code, self.expression.segments[1])
        return KeptRow(self.code, None if in_registers else self._scratch(second))

    def array_of(self, source: Operand) -> KeptRow | None:
        """An operand that lies in memory, where that is as good as a new row of it."""
        if not isinstance(source, FromArg) or few(self.code, self.expression.segments[1]):
            return None
        return KeptRow(self.code, self._bases[source.number]) if self._is_long(source.number) else None

    def row_of(self, source: Operand) -> Value:
        """Where the row of an array that is read begins."""
        assert isinstance(source, FromArg)
        return self._bases[source.number]

    def operand(self, source: Operand, j: Index, lanes: int | None) -> Value:
        """An operand of a step at a window, evaluated from the start."""
        if isinstance(source, FromStep):
            return self.value(source.number, j, lanes)
        return self._outside(source, j, lanes)


def scratch_floats(expression: Expression, stride: Callable[[int], int]) -> int:
    """Scratch that the row kernel of an expression needs."""
    rows = sum(s.op in (*WHOLE_ROW, *PICKED) for s in expression.steps)
    return SCRATCH_ROWS * rows * stride(expression.scratch_width)
