"""The matrix product y = x · wᵀ with packed weights and an elementwise tail.

The micro-kernels, which the form of the weights gives, hold a tile of rows × one panel in registers and know
nothing else: K and the strides are arguments, so every product of a program shares them. The tail runs over
the tile that was just stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.expression import Expression
from rlxflow.backends.cpu.form import Form, UnpackedPanels, find_form
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.row_values import RowValues
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import LINE, TILE_ARGUMENTS
from rlxflow.quick_dataclass import dataclass

PREFETCH = 64  # rows of a panel: the time of so many steps covers a read from main memory
FEW_TILES = 2  # of a panel: memory is what they wait for; see `Tile.fetch`
TILES_PER_BLOCK = 5  # largest tiles of rows that meet a panel before the next one: their x stays in the cache
NEAR_WORDS = 1 << 17  # of x that meet an unpacked panel before the next one: half a second-level cache


@dataclass(frozen=True)
class Gemm:
    """The form of the weights, K, N and strides in words; the tail's first step stands for the product."""

    form: str
    depth: int
    columns: int
    x_stride: int
    out_stride: int
    tail: Expression


def gemm_kernel(module: Module, gemm: Gemm) -> Value:
    """The function (frame, x, weights, out, args…) that computes this thread's share: of all blocks of rows
    times panels, so that of many rows it has its own."""
    form = find_form(gemm.form)
    domain = Frame.TOKENS if gemm.tail.domain == "token" else Frame.SEQUENCES

    def body(code: Code, frame: Value, *arguments: Value) -> None:
        count = read(code, frame, domain)
        unpacked = form.unpacked
        if unpacked is None:
            _products(code, gemm, form, None, count, frame, *arguments)
            return
        few = code.icmp_signed("<", count, i64(unpacked.least_rows(module.target)))
        with code.if_else(few) as (then, otherwise):
            with then:
                _products(code, gemm, form, None, count, frame, *arguments)
            with otherwise:
                _products(code, gemm, form, unpacked, count, frame, *arguments)

    return module.function(("gemm", gemm), [PTR] * (4 + len(gemm.tail.args)), body)


def scratch_floats(gemm: Gemm, target: Target) -> int:
    """Scratch that a thread needs: an unpacked panel, or what the sums of a block of rows start from."""
    form = find_form(gemm.form)
    if form.unpacked is not None:
        return form.unpacked.words(gemm.depth) * target.panel
    height = form.tile_rows(target)
    return 0 if form.starts is None else _tiles_per_block(target, height) * height


def _products(
    code: Code, gemm: Gemm, form: Form, unpacked: UnpackedPanels | None, count: Value, frame: Value,
    x: Value, weights: Value, out: Value, *pointers: Value,
) -> None:  # fmt: skip
    """This thread's panels of every block of rows; they are unpacked first where `unpacked` is given."""
    module = code.owner
    target, tiled = module.target, unpacked or form
    words, height = form.words(gemm.depth), tiled.tile_rows(target)
    panels = i64(-(-gemm.columns // target.panel))
    tail = _tail(module, gemm)
    most = _tiles_per_block(target, height)
    if unpacked is not None:
        most = max(most, NEAR_WORDS // gemm.x_stride // height)
    blocks = code.sdiv(code.add(count, i64(height * most - 1)), i64(height * most))
    low, high = share(code, frame, code.mul(blocks, panels))

    def rows_block(number: Value, _: tuple[Value, ...]) -> None:
        start = code.sdiv(code.mul(count, number), blocks)
        stop = code.sdiv(code.mul(count, code.add(number, i64(1))), blocks)
        size = code.sub(stop, start)
        tiles = code.sdiv(code.add(size, i64(height - 1)), i64(height))
        least, extra = code.sdiv(size, tiles), code.srem(size, tiles)
        few = code.icmp_signed("<=", tiles, i64(FEW_TILES))
        pace = code.sdiv(code.add(tiles, i64(target.panel - 1)), tiles)
        scratch = read(code, frame, Frame.SCRATCH)
        if form.starts is not None:
            _starts(code, gemm, form.starts(module), x, start, size, scratch)

        def panel(number: Value, _: tuple[Value, ...]) -> None:
            column = code.mul(number, i64(target.panel))
            packed = code.at(weights, code.mul(column, i64(words)))
            following = code.at(packed, words * target.panel)
            if unpacked is not None:
                code.call(unpacked.unpack(module), [packed, i64(gemm.depth), scratch])
                packed = scratch

            def tile(i: Value, carried: tuple[Value, ...]) -> tuple[Value, ...]:
                (row,) = carried
                rows = code.add(least, code.zext(code.icmp_signed("<", i, extra), I64))
                source = code.at(x, code.mul(row, i64(gemm.x_stride)))
                result = code.at(out, code.add(code.mul(row, i64(gemm.out_stride)), column))
                sizes = [i64(n) for n in (gemm.depth, gemm.x_stride, gemm.out_stride)]
                _fetch_for_tail(code, gemm, row, rows, column, pointers)

                def run(shared: bool, ahead: Value, pace: Value) -> None:
                    starts = code.at(scratch, code.sub(row, start))
                    arguments = [rows, source, starts, packed, ahead, pace, result, *sizes]
                    code.call(_any_tile(module, tiled, shared), arguments)

                part = code.at(following, code.mul(code.mul(i, pace), i64(words)))
                if unpacked is not None:
                    run(True, part, pace)
                else:
                    alone = code.icmp_signed("==", tiles, i64(1))
                    ahead = code.select(alone, code.at(packed, PREFETCH * target.panel), part)
                    with code.if_else(few) as (then, otherwise):
                        with then:
                            run(False, ahead, pace)
                        with otherwise:
                            run(True, part, pace)
                if tail is not None:
                    code.call(tail, [frame, row, rows, column, out, *pointers])
                return (code.add(row, rows),)

            code.loop(0, tiles, 1, tile, (start,))

        before = code.mul(number, panels)
        first = code.maximum(code.sub(low, before), i64(0))
        last = code.minimum(code.sub(high, before), panels)
        code.loop(first, last, 1, panel)

    last = code.sdiv(code.add(high, code.sub(panels, i64(1))), panels)
    code.loop(code.sdiv(low, panels), last, 1, rows_block)


def _tiles_per_block(target: Target, height: int) -> int:
    """Tiles of at most so many rows."""
    return -(-TILES_PER_BLOCK * target.tile_rows // height)


def _starts(
    code: Code, gemm: Gemm, function: Value, x: Value, first: Value, count: Value, out: Value
) -> None:
    """What the sums of so many rows start from, see `Form.starts`."""

    def row(r: Value, _: tuple[Value, ...]) -> None:
        source = code.at(x, code.mul(code.add(first, r), i64(gemm.x_stride)))
        code.call(function, [source, i64(gemm.depth), code.at(out, r)])

    code.loop(0, count, 1, row)


def _any_tile(module: Module, form: Form | UnpackedPanels, shared: bool) -> Value:
    """The function (rows, …) for any height of tile, see `Tile`."""
    most = form.tile_rows(module.target)
    heights = range((most + 1) // 2 if shared else 1, most + 1)  # several tiles are of nearly equal heights

    def body(code: Code, rows: Value, *arguments: Value) -> None:
        out, out_stride = arguments[5], arguments[8]

        def one(height: int) -> None:
            for r in range(height):
                line = code.mul(i64(r), out_stride)
                for column in range(0, module.target.panel, LINE):
                    code.prefetch_to_write(out, code.add(line, i64(column)))
            code.call(form.tile(module, height, shared), arguments)

        code.choose(rows, heights, one)

    return module.function(("any tile", form.name, shared), [I64, *TILE_ARGUMENTS], body)


def _fetch_for_tail(
    code: Code, gemm: Gemm, row: Value, rows: Value, column: Value, pointers: Sequence[Value]
) -> None:
    """Begin to read what the tail of a tile will: another thread or an earlier product wrote it."""
    tail = gemm.tail
    for arg, pointer in zip(tail.args, pointers, strict=True):
        if (arg.kind, arg.rows, math.prod(arg.inner)) != ("buffer", tail.domain, gemm.columns):
            continue
        start = code.at(pointer, code.add(code.mul(row, i64(arg.stride)), column))

        def line(r: Value, _: tuple[Value, ...], start: Value = start, stride: int = arg.stride) -> None:
            for word in range(0, code.owner.target.panel, LINE):
                code.prefetch(start, code.add(code.mul(r, i64(stride)), i64(word)))

        code.loop(0, rows, 1, line)


def _tail(module: Module, gemm: Gemm) -> Value | None:
    """The function (frame, row, rows, column, out, args…) that finishes a tile; None for no tail."""
    if len(gemm.tail.steps) == 1:
        return None
    lanes = module.target.lanes

    def body(
        code: Code, frame: Value, row: Value, rows: Value, column: Value, out: Value, *pointers: Value
    ) -> None:
        def one(r: Value, _: tuple[Value, ...]) -> None:
            number = code.add(row, r)
            line = code.at(out, code.mul(number, i64(gemm.out_stride)))
            values = RowValues(code, gemm.tail, frame, pointers, number, i64(0))
            places = [column, code.add(column, i64(lanes))]
            results = []
            for place in places:
                values.give(0, code.get_vector(line, place))
                results.append(values.result(place, None))
            for place, result in zip(places, results, strict=True):
                code.put_vector(result, line, place)

        code.loop(0, rows, 1, one)

    kinds = [PTR, I64, I64, I64, PTR] + [PTR] * len(gemm.tail.args)
    return module.function(("tail", gemm.tail, gemm.out_stride), kinds, body)
