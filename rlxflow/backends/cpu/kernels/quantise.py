"""Rows of f32 as int8 with scales: what products with int8 weights read. See `Quantised` for the layout."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from rlxflow.backends.cpu.code import I8, PTR, Code, Index, Module, Value, f32, i64
from rlxflow.backends.cpu.domain import Domain
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.elementwise import maximum
from rlxflow.backends.cpu.kernels.windows import UNROLL, windows
from rlxflow.backends.cpu.quantised import Quantised

SMALLEST = 1e-30  # of a block's max|x|; below, the block counts as zeros and its reciprocal stays finite
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

    q = round(x · (127 / max|x|)), halves to even. A block with a NaN or an infinity has such a scale.
    """
    depth, layout = kernel.depth, kernel.layout
    size, words = layout.block_size(depth), layout.block_words(depth)
    domain = Frame.TOKENS if kernel.domain == "token" else Frame.SEQUENCES

    def body(code: Code, frame: Value, x: Value, out: Value) -> None:
        def row(index: Value, _: tuple[Value, ...]) -> None:
            source = code.at(x, code.mul(index, i64(kernel.x_stride)))
            target = code.at(out, code.mul(index, i64(kernel.out_stride)))

            def block(number: Value, _: tuple[Value, ...]) -> None:
                start = code.at(source, code.mul(number, i64(size)))
                _block(code, layout, depth, start, code.at(target, code.mul(number, i64(words))))

            code.loop(0, depth // size if depth else 0, 1, block)

        code.loop(*share(code, frame, read(code, frame, domain)), 1, row)

    return module.function(("quantise", kernel), [PTR] * 3, body)


def _block(code: Code, layout: Quantised, depth: int, x: Value, out: Value) -> None:
    size, groups = layout.block_size(depth), layout.groups(depth)

    def larger(j: Index, lanes: int | None, top: Value) -> Value:
        return maximum(code, top, code.per_lane("fabs", code.get_vector(x, j, lanes)))

    tops = windows(code, size, larger, [code.zero] * UNROLL)
    joined = maximum(code, maximum(code, tops[0], tops[1]), maximum(code, tops[2], tops[3]))
    top = code.reduce(lambda a, b: maximum(code, a, b), joined)
    tiny = code.fcmp_ordered("<", top, f32(SMALLEST))
    code.put(code.select(tiny, f32(0.0), code.fdiv(top, f32(127.0))), out)
    factor = code.splat(code.select(tiny, f32(0.0), code.fdiv(f32(127.0), top)))
    for group in range(groups):
        width = size // groups
        values = code.at(out, layout.values_at(depth) + group * width // 4)
        total = _group(code, width, factor, code.at(x, group * width), values)
        code.put(total, out, layout.sums_at + group)


def _group(code: Code, width: int, factor: Value, x: Value, out: Value) -> Value:
    """Write `width` q; their sum."""
    bytes_ = ir.VectorType(I8, code.lanes)

    def write(j: Index, lanes: int | None, total: Value) -> Value:
        scaled = code.fmul(code.get_vector(x, j, lanes), factor)
        bits = code.bitcast(code.fadd(scaled, code.fill(ROUND)), code.ints)
        code.put_as(code.trunc(bits, bytes_), code.at(out, j, I8))
        return code.add(total, code.sub(bits, code.fill_int(ROUND_BITS)))

    zeros = ir.Constant(code.ints, None)
    sums = windows(code, width, write, [zeros] * UNROLL)
    return code.reduce(code.add, code.add(code.add(sums[0], sums[1]), code.add(sums[2], sums[3])))
