"""Norms and softmax over a row: the sums, and the elementwise rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, Code, Index, Value, f32
from rlxflow.backends.cpu.expression import Operand, Step
from rlxflow.backends.cpu.kernels.elementwise import maximum
from rlxflow.backends.cpu.kernels.windows import UNROLL, windows
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.backends.cpu.kernels.row_values import RowValues


@dataclass(frozen=True)
class Reduced:
    """A value that is `finish(what lies in row, its other operands)` at every column."""

    row: Value
    finish: Callable[[Value, Sequence[Value]], Value]


def reduce_row(values: RowValues, step: Step, source: Operand, row: Value) -> Reduced:
    """Evaluate the operand of a reduction into `row`, and its sums; see the op for the formula."""
    return _KINDS[step.op](_Pass(values, source, row), step)


class _Pass:
    """Passes over a row in windows."""

    def __init__(self, values: RowValues, source: Operand, row: Value) -> None:
        self.code: Code = values.code
        self.width = values.expression.segments[1]
        self.row = row
        self._values, self._source = values, source

    def load(self, j: Index, lanes: int | None) -> Value:
        """The operand, evaluated; the first pass."""
        return self._values.operand(self._source, j, lanes)

    def again(self, j: Index, lanes: int | None) -> Value:
        """What an earlier pass left in the row."""
        return self.code.get_vector(self.row, j, lanes)

    def total(
        self,
        read: Callable[[Index, int | None], Value],
        keep: Callable[[Value], Value],
        term: Callable[[Value], Value] = lambda x: x,
        combine: str = "fadd",
    ) -> Value:
        """Store keep(x) in the row and combine term(keep(x)) over it, in a fixed order; a scalar."""
        code = self.code
        neutral = code.zero if combine == "fadd" else code.fill(float("-inf"))
        join: Any = code.fadd if combine == "fadd" else code.larger

        def window(j: Index, lanes: int | None, sum_: Value) -> Value:
            x = keep(read(j, lanes))
            code.put_vector(x, self.row, j, lanes)
            x = term(x)
            return join(sum_, x if lanes is None else code.select(code.first(lanes), x, neutral))

        sums = windows(code, self.width, window, [neutral] * UNROLL)
        return code.reduce(join, join(join(sums[0], sums[2]), join(sums[1], sums[3])))

    def mean_square(
        self, read: Callable[[Index, int | None], Value], keep: Callable[[Value], Value]
    ) -> Value:
        squares = self.total(read, keep, lambda x: self.code.fmul(x, x))
        return self.code.fdiv(squares, f32(float(self.width)))

    def sqrt(self, scalar: Value) -> Value:
        return self.code.call(self.code.owner.intrinsic("llvm.sqrt.f32", F32, [F32]), [scalar])

    def inverse_root(self, scalar: Value, eps: float) -> Value:
        """1 / √(x + eps), in every lane"""
        code = self.code
        return code.splat(code.fdiv(f32(1.0), self.sqrt(code.fadd(scalar, f32(eps)))))


def _layer_norm(p: _Pass, step: Step) -> Reduced:
    code = p.code
    mean = code.splat(code.fdiv(p.total(p.load, lambda x: x), f32(float(p.width))))
    scale = p.inverse_root(p.mean_square(p.again, lambda x: code.fsub(x, mean)), step.attr("eps"))

    def finish(x: Value, rest: Sequence[Value]) -> Value:
        weight, bias = (*rest, None)[:2]
        y = code.fmul(x, scale)
        return code.fmul(y, weight) if bias is None else code.fma_(y, weight, bias)

    return Reduced(p.row, finish)


def _rms_norm(p: _Pass, step: Step) -> Reduced:
    code = p.code
    scale = p.inverse_root(p.mean_square(p.load, lambda x: x), step.attr("eps"))

    def finish(x: Value, rest: Sequence[Value]) -> Value:
        weight = code.fadd(rest[0], code.fill(1.0)) if step.attr("unit_offset") else rest[0]
        return code.fmul(code.fmul(x, scale), weight)

    return Reduced(p.row, finish)


def _l2_normalize(p: _Pass, step: Step) -> Reduced:
    code = p.code
    norm = p.sqrt(p.total(p.load, lambda x: x, lambda x: code.fmul(x, x)))
    divisor = maximum(code, code.splat(norm), code.fill(step.attr("eps")))
    return Reduced(p.row, lambda x, _: code.fdiv(x, divisor))


def _softmax(p: _Pass, step: Step) -> Reduced:
    code = p.code
    top = code.splat(p.total(p.load, lambda x: x, combine="larger"))
    total = code.splat(p.total(p.again, lambda x: math.exp(code, code.fsub(x, top))))
    return Reduced(p.row, lambda x, _: code.fdiv(x, total))


_KINDS: dict[str, Callable[[_Pass, Step], Reduced]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "l2_normalize": _l2_normalize,
    "softmax": _softmax,
}
