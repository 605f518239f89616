"""Rows of f32 in less: what products in int8 and bf16 read. See `quantised.py` for the layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from llvmlite import ir

from rlxflow.backends.cpu.code import I8, PTR, Code, Index, Module, Value, f32, i64
from rlxflow.backends.cpu.domain import Domain
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.bfloat import pairs_of
from rlxflow.backends.cpu.kernels.quantise_32 import quantise_32
from rlxflow.backends.cpu.kernels.quantise_64 import quantise_64
from rlxflow.backends.cpu.kernels.quantise_k import find_powers, write_sums
from rlxflow.backends.cpu.quantised import Bf16Pairs, Layout, Quantised32, QuantisedK
from rlxflow.quick_dataclass import dataclass

SMALLEST = 1e-30  # of a block's range; below, all its q are 0, so that the reciprocal stays finite
ROUND, ROUND_BITS = 12582912.0, 0x4B400000  # 1.5·2²³: adding it rounds to an integer, found in the low bits


@dataclass(frozen=True)
class Quantise:
    """K, strides in words, and what has rows."""

    layout: Layout
    depth: int
    x_stride: int
    out_stride: int
    domain: Domain


def quantise_kernel(module: Module, kernel: Quantise) -> Value:
    """The function (frame, x, out) that quantises this thread's share of the rows.

    For K-quants q = round(x · (960 / max|x|) · 2⁻ᵉ), halves to even. What has a NaN or an infinity has such a
    scale.
    """
    domain = Frame.TOKENS if kernel.domain == "token" else Frame.SEQUENCES

    def body(code: Code, frame: Value, x: Value, out: Value) -> None:
        quantise = row_quantiser(code, kernel.layout, kernel.depth)

        def row(index: Value, _: tuple[Value, ...]) -> None:
            source = code.at(x, code.mul(index, i64(kernel.x_stride)))
            quantise(source, code.at(out, code.mul(index, i64(kernel.out_stride))))

        code.loop(*share(code, frame, read(code, frame, domain)), 1, row)

    return module.function(("quantise", kernel), [PTR] * 3, body)


def row_quantiser(code: Code, layout: Layout, depth: int) -> Callable[[Value, Value], None]:
    """What quantises one row (x, out); call this outside of loops."""
    if isinstance(layout, Quantised32):
        return quantise_32(code, layout, depth)
    if isinstance(layout, Bf16Pairs):
        return partial(_pairs, code, layout, depth)
    if isinstance(layout, QuantisedK):
        return partial(_k_blocks, code, layout, depth)
    return partial(quantise_64, code, depth)


def _pairs(code: Code, layout: Bf16Pairs, depth: int, x: Value, out: Value) -> None:
    def vector(start: Value, first: int, count: int) -> Value:
        """A vector of which `count` elements or more exist, or none."""
        lanes = None if count >= code.lanes else count
        return code.get_vector(start, first, lanes) if count > 0 else code.zero

    def block(first: Index, size: int) -> None:
        start, half = code.at(x, first), -(-size // 2)
        target = code.at(out, code.lshr(i64(first), i64(1)))
        for j in range(0, half, code.lanes):
            low, high = vector(start, j, half - j), vector(start, half + j, size - half - j)
            code.put_as(pairs_of(code, low, high), target, j)

    rest = depth % layout.block
    code.loop(0, depth - rest, layout.block, lambda first, _: block(first, layout.block))
    if rest:
        block(depth - rest, rest)


def _k_blocks(code: Code, layout: QuantisedK, depth: int, x: Value, out: Value) -> None:
    def block(number: Value, _: tuple[Value, ...]) -> None:
        source = code.at(x, code.mul(number, i64(layout.block)))
        own = code.at(out, code.mul(number, i64(layout.words)))
        vectors = [code.get_vector(source, j) for j in range(0, layout.block, code.lanes)]
        top, powers = find_powers(code, layout, vectors, own)
        factor = _scale(code, top, float(layout.largest * 2**layout.most), code.at(own, layout.scale))
        per_power = len(vectors) // len(powers)
        scaled = [code.fmul(v, code.fmul(factor, powers[i // per_power])) for i, v in enumerate(vectors)]
        write_sums(code, layout, _write(code, scaled, code.at(own, layout.values)), own)

    code.loop(0, depth // layout.block, 1, block)


def _scale(code: Code, span: Value, steps: float, out: Value) -> Value:
    """Write span / steps; steps / span in all lanes."""
    tiny = code.fcmp_ordered("<", span, f32(SMALLEST))
    code.put(code.select(tiny, f32(0.0), code.fdiv(span, f32(steps))), out)
    return code.splat(code.select(tiny, f32(0.0), code.fdiv(f32(steps), span)))


def _write(code: Code, scaled: Sequence[Value], out: Value) -> list[Value]:
    """Write all q, rounded to even; the q."""
    rounded = []
    for number, value in enumerate(scaled):
        bits = code.bitcast(code.fadd(value, code.fill(ROUND)), code.ints)
        q = code.sub(bits, code.fill_int(ROUND_BITS))
        code.put_as(code.trunc(q, ir.VectorType(I8, code.lanes)), code.at(out, number * code.lanes, I8))
        rounded.append(q)
    return rounded
