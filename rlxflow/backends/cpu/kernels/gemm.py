"""The matrix product y = x · wᵀ with packed weights and an elementwise tail.

The micro-kernels, which the form of the weights gives, hold a tile of rows × one panel in registers and know
nothing else: K and the strides are arguments, so every product of a program shares them. The tail runs over
the tile that was just stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.expression import Expression
from rlxflow.backends.cpu.form import Form, find_form
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.row_values import RowValues
from rlxflow.backends.cpu.tile import LINE, TILE_ARGUMENTS

PREFETCH = 64  # rows of a panel: the time of so many steps covers a read from main memory
FEW_TILES = 2  # of a panel: the first one fetches it; more fetch the next one together; see `Tile.fetch`
TILES_PER_BLOCK = 5  # tiles of rows that meet a panel before the next one: their x stays in the cache


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
    """The function (frame, x, weights, out, args…) that computes this thread's share of the panels."""
    target, form = module.target, find_form(gemm.form)
    words, height = form.words(gemm.depth), form.tile_rows(target)
    domain = Frame.TOKENS if gemm.tail.domain == "token" else Frame.SEQUENCES
    panels = -(-gemm.columns // target.panel)
    block = height * TILES_PER_BLOCK
    tail = _tail(module, gemm)

    def body(code: Code, frame: Value, x: Value, weights: Value, out: Value, *pointers: Value) -> None:
        low, high = share(code, frame, i64(panels))
        count = read(code, frame, domain)

        def rows_block(number: Value, _: tuple[Value, ...]) -> None:
            start = code.sdiv(code.mul(count, number), blocks)
            stop = code.sdiv(code.mul(count, code.add(number, i64(1))), blocks)
            size = code.sub(stop, start)
            tiles = code.sdiv(code.add(size, i64(height - 1)), i64(height))
            least, extra = code.sdiv(size, tiles), code.srem(size, tiles)
            few = code.icmp_signed("<=", tiles, i64(FEW_TILES))
            pace = code.sdiv(code.add(tiles, i64(target.panel - 1)), tiles)
            pace = code.select(few, i64(0), pace)  # nothing is left for the second of two

            def panel(number: Value, _: tuple[Value, ...]) -> None:
                column = code.mul(number, i64(target.panel))
                packed = code.at(weights, code.mul(column, i64(words)))
                following = code.at(packed, words * target.panel)

                def tile(i: Value, carried: tuple[Value, ...]) -> tuple[Value, ...]:
                    (row,) = carried
                    rows = code.add(least, code.zext(code.icmp_signed("<", i, extra), I64))
                    source = code.at(x, code.mul(row, i64(gemm.x_stride)))
                    result = code.at(out, code.add(code.mul(row, i64(gemm.out_stride)), column))
                    sizes = [i64(n) for n in (gemm.depth, gemm.x_stride, gemm.out_stride)]
                    leads = code.and_(few, code.icmp_signed("==", i, i64(0)))
                    with code.if_else(leads) as (then, otherwise):
                        with then:
                            fetched = [code.at(packed, PREFETCH * target.panel), i64(target.panel)]
                            arguments = [rows, source, packed, *fetched, result, *sizes]
                            code.call(_any_tile(module, form, shared=False), arguments)
                        with otherwise:
                            part = code.mul(code.mul(i, pace), i64(words))
                            fetched = [code.at(following, part), pace]
                            arguments = [rows, source, packed, *fetched, result, *sizes]
                            code.call(_any_tile(module, form, shared=True), arguments)
                    if tail is not None:
                        code.call(tail, [frame, row, rows, column, out, *pointers])
                    return (code.add(row, rows),)

                code.loop(0, tiles, 1, tile, (start,))

            code.loop(low, high, 1, panel)

        blocks = code.sdiv(code.add(count, i64(block - 1)), i64(block))
        code.loop(0, blocks, 1, rows_block)

    return module.function(("gemm", gemm), [PTR] * (4 + len(gemm.tail.args)), body)


def _any_tile(module: Module, form: Form, shared: bool) -> Value:
    """The function (rows, …) for any height of tile, see `Tile`."""
    most = form.tile_rows(module.target)
    heights = range((most + 1) // 2 if shared else 1, most + 1)  # several tiles are of nearly equal heights

    def body(code: Code, rows: Value, *arguments: Value) -> None:
        out, out_stride = arguments[4], arguments[7]

        def one(height: int) -> None:
            for r in range(height):
                line = code.mul(i64(r), out_stride)
                for column in range(0, module.target.panel, LINE):
                    code.prefetch_to_write(out, code.add(line, i64(column)))
            code.call(form.tile(module, height, shared), arguments)

        code.choose(rows, heights, one)

    return module.function(("any tile", form.name, shared), [I64, *TILE_ARGUMENTS], body)


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
