"""Norms and softmax over a row: the sums, and the elementwise rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, Code, Index, Value, f32
from rlxflow.backends.cpu.expression import Operand, Step
from rlxflow.backends.cpu.kernels.elementwise import maximum
from rlxflow.backends.cpu.kernels.kept_rows import KeptRow
from rlxflow.backends.cpu.kernels.windows import UNROLL, windows
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.backends.cpu.kernels.row_values import RowValues


@dataclass(frozen=True)
class Reduced:
    """A value that is `finish(what row has there, its other operands)` at every column."""

    row: KeptRow
    finish: Callable[[Value, Sequence[Value]], Value]


def reduce_row(values: RowValues, step: Step, source: Operand) -> Reduced:
    """The sums over the operand of a reduction; see the op for the formula."""
    return _KINDS[step.op](_Passes(values, source), step)


def _same(x: Value) -> Value:
    return x


class _Passes:
    """Passes over a row in windows. The first one evaluates the operand, unless that is an array."""

    def __init__(self, values: RowValues, source: Operand) -> None:
        self.code: Code = values.code
        self.width = values.expression.segments[1]
        self._values = values
        self._read: Callable[[Index, int | None], Value] = partial(values.operand, source)
        array = values.array_of(source)
        self._kept = array is not None
        self.row = array or values.new_row()

    def total(
        self,
        term: Callable[[Value], Value] = _same,
        combine: str = "fadd",
        change: Callable[[Value], Value] | None = None,
    ) -> Value:
        """Combine term(x) over the row in a fixed order; a scalar. The row becomes change(x) before."""
        code = self.code
        neutral = code.zero if combine == "fadd" else code.fill(float("-inf"))
        join: Any = code.fadd if combine == "fadd" else code.larger
        writes = change is not None or not self._kept
        row = self._values.new_row() if writes else self.row

        def window(j: Index, lanes: int | None, sum_: Value) -> Value:
            x = (change or _same)(self._read(j, lanes))
            if writes:
                row.put(x, j, lanes)
            x = term(x)
            return join(sum_, x if lanes is None else code.select(code.first(lanes), x, neutral))

        sums = windows(code, self.width, window, [neutral] * UNROLL)
        self.row, self._read, self._kept = row, row.get, True
        return code.reduce(join, join(join(sums[0], sums[2]), join(sums[1], sums[3])))

    def mean_square(self, term: Callable[[Value], Value] = _same) -> Value:
        def square(x: Value) -> Value:
            y = term(x)
            return self.code.fmul(y, y)

        return self.code.fdiv(self.total(square), f32(float(self.width)))

    def sqrt(self, scalar: Value) -> Value:
        return self.code.call(self.code.owner.intrinsic("llvm.sqrt.f32", F32, [F32]), [scalar])

    def inverse_root(self, scalar: Value, eps: float) -> Value:
        """1 / √(x + eps), in every lane"""
        code = self.code
        return code.splat(code.fdiv(f32(1.0), self.sqrt(code.fadd(scalar, f32(eps)))))


def _layer_norm(p: _Passes, step: Step) -> Reduced:
    code = p.code
    mean = code.splat(code.fdiv(p.total(), f32(float(p.width))))
    scale = p.inverse_root(p.mean_square(lambda x: code.fsub(x, mean)), step.attr("eps"))

    def finish(x: Value, rest: Sequence[Value]) -> Value:
        weight, bias = (*rest, None)[:2]
        y = code.fmul(code.fsub(x, mean), scale)
        return code.fmul(y, weight) if bias is None else code.fma_(y, weight, bias)

    return Reduced(p.row, finish)


def _rms_norm(p: _Passes, step: Step) -> Reduced:
    code = p.code
    scale = p.inverse_root(p.mean_square(), step.attr("eps"))

    def finish(x: Value, rest: Sequence[Value]) -> Value:
        weight = code.fadd(rest[0], code.fill(1.0)) if step.attr("unit_offset") else rest[0]
        return code.fmul(code.fmul(x, scale), weight)

    return Reduced(p.row, finish)


def _l2_normalize(p: _Passes, step: Step) -> Reduced:
    code = p.code
    norm = p.sqrt(p.total(lambda x: code.fmul(x, x)))
    divisor = maximum(code, code.splat(norm), code.fill(step.attr("eps")))
    return Reduced(p.row, lambda x, _: code.fdiv(x, divisor))


def _softmax(p: _Passes, step: Step) -> Reduced:
    code = p.code
    top = code.splat(p.total(combine="larger"))
    total = code.splat(p.total(change=lambda x: math.exp(code, code.fsub(x, top))))
    return Reduced(p.row, lambda x, _: code.fdiv(x, total))


_KINDS: dict[str, Callable[[_Passes, Step], Reduced]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "l2_normalize": _l2_normalize,
    "softmax": _softmax,
}
