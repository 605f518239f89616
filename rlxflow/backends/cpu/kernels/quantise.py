"""Rows of f32 as int8 with scales: what products with int8 weights read. See `Quantised` for the layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from rlxflow.backends.cpu.code import F32, I8, I32, PTR, Code, Index, Module, Value, f32, i64
from rlxflow.backends.cpu.domain import Domain
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.elementwise import maximum, minimum
from rlxflow.backends.cpu.kernels.windows import UNROLL, windows
from rlxflow.backends.cpu.quantised import Quantised

SMALLEST = 1e-30  # of a block's range; below, all its q are 0, so that the reciprocal stays finite
ROUND, ROUND_BITS = 12582912.0, 0x4B400000  # 1.5·2²³: adding it rounds to an integer, found in the low bits


@dataclass(frozen=True)
class Quantise:
    """K, strides in words, and what has rows."""

    layout: Quantised
    depth: int
    x_stride: int
    out_stride: int
    domain: Domain


def quantise_kernel(module: Module, kernel: Quantise) -> Value:
    """The function (frame, x, out) that quantises this thread's share of the rows.

    Symmetric: q = round(x · (127 / max|x|)); affine: q = round((x - low) · (255 / (max x - low))); halves to
    even. A block with a NaN or an infinity has such a scale.
    """
    layout = kernel.layout
    whole, rest = layout.blocks(kernel.depth)
    words = layout.block_words(layout.block)
    domain = Frame.TOKENS if kernel.domain == "token" else Frame.SEQUENCES

    def body(code: Code, frame: Value, x: Value, out: Value) -> None:
        def row(index: Value, _: tuple[Value, ...]) -> None:
            source = code.at(x, code.mul(index, i64(kernel.x_stride)))
            target = code.at(out, code.mul(index, i64(kernel.out_stride)))

            def block(number: Index, size: int) -> None:
                start = code.at(source, code.mul(i64(number), i64(layout.block)))
                result = code.at(target, code.mul(i64(number), i64(words)))
                (_affine if layout.affine else _symmetric)(code, layout, size, start, result)

            code.loop(0, whole, 1, lambda number, _: block(number, layout.block))
            if rest:
                block(whole, rest)

        code.loop(*share(code, frame, read(code, frame, domain)), 1, row)

    return module.function(("quantise", kernel), [PTR] * 3, body)


def _symmetric(code: Code, layout: Quantised, size: int, x: Value, out: Value) -> None:
    top = _extreme(code, size, x, lambda a, b: maximum(code, a, code.per_lane("fabs", b)))
    factor = _scale(code, top, 127.0, out)
    width = size // layout.groups(size)
    minus = ir.Constant(I32, 0)
    for group in range(layout.groups(size)):
        values = code.at(out, layout.values_at(size) + group * width // 4)
        total = _write(code, width, code.at(x, group * width), code.zero, factor, values)
        code.put(code.neg(total), out, 1 + group)
        minus = code.sub(minus, total)
    scaled = code.fmul(code.get(out), code.sitofp(minus, F32))
    code.put(scaled, out, 1 + layout.groups(size))


def _affine(code: Code, layout: Quantised, size: int, x: Value, out: Value) -> None:
    low = _extreme(code, size, x, lambda a, b: minimum(code, a, b))
    high = _extreme(code, size, x, lambda a, b: maximum(code, a, b))
    code.put(low, out, 1)
    factor = _scale(code, code.fsub(high, low), 255.0, out)
    _write(code, size, x, code.splat(low), factor, code.at(out, layout.values_at(size)))


def _extreme(code: Code, size: int, x: Value, widen: Callable[[Value, Value], Value]) -> Value:
    """`widen` over all elements; NaN where one is."""
    first = code.splat(code.get(x))

    def window(j: Index, lanes: int | None, kept: Value) -> Value:
        value = code.get_vector(x, j, lanes)
        return widen(kept, value if lanes is None else code.select(code.first(lanes), value, first))

    found = windows(code, size, window, [widen(first, first)] * UNROLL)
    return code.reduce(widen, widen(widen(found[0], found[1]), widen(found[2], found[3])))


def _scale(code: Code, span: Value, steps: float, out: Value) -> Value:
    """Write span / steps; steps / span in all lanes."""
    tiny = code.fcmp_ordered("<", span, f32(SMALLEST))
    code.put(code.select(tiny, f32(0.0), code.fdiv(span, f32(steps))), out)
    return code.splat(code.select(tiny, f32(0.0), code.fdiv(f32(steps), span)))


def _write(code: Code, width: int, x: Value, low: Value, factor: Value, out: Value) -> Value:
    """Write `width` q = round((x - low) · factor), and zeros up to a whole vector; their sum."""
    bytes_ = ir.VectorType(I8, code.lanes)

    def write(j: Index, lanes: int | None, total: Value) -> Value:
        scaled = code.fmul(code.fsub(code.get_vector(x, j, lanes), low), factor)
        bits = code.bitcast(code.fadd(scaled, code.fill(ROUND)), code.ints)
        q = code.sub(bits, code.fill_int(ROUND_BITS))
        q = q if lanes is None else code.select(code.first(lanes), q, code.nothing)
        code.put_as(code.trunc(q, bytes_), code.at(out, j, I8))
        return code.add(total, q)

    sums = windows(code, width, write, [code.nothing] * UNROLL)
    return code.reduce(code.add, code.add(code.add(sums[0], sums[1]), code.add(sums[2], sums[3])))
