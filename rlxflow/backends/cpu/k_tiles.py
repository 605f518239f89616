"""The micro-kernels of K-quants that read x as int8 and weights from packed panels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from rlxflow.backends.cpu.block_tiles import BlockForm
from rlxflow.backends.cpu.blocks import Blocks, Unit, Word
from rlxflow.backends.cpu.code import Code, Index, Value, i64
from rlxflow.backends.cpu.k_blocks import UNIT, Half, Halves, runs_of
from rlxflow.backends.cpu.k_pairs import PairedK
from rlxflow.backends.cpu.k_panels import UnpackedK
from rlxflow.backends.cpu.k_rows import Rows, X, add_block, add_minima, records_of, shorts_of
from rlxflow.backends.cpu.tile import Tile
from rlxflow.dtypes import DType
from rlxflow.quick_dataclass import dataclass

Pair = tuple[Half, Half]  # in both vectors of a panel


def k_forms(
    dtype: DType,
    halves: Halves,
    numbers: int,
    *,
    last: bool = False,
    paired: bool = False,
    arrange: Callable[[Code, Word], Iterable[Value]] | None = None,
) -> tuple[BlockForm, BlockForm]:
    """The forms of a K-quant with so many float16 numbers: x as int8, and x as f32.

    `paired`: codes are in 0 … 15 and runs have 32 elements."""
    blocks = Blocks(dtype, UNIT, numbers, runs_of(halves), halves_last=last, arrange=arrange)
    return KForm(blocks, X, halves, paired), BlockForm(blocks, None)


@dataclass(frozen=True)
class KForm(BlockForm):
    """See `Form`."""

    halves: Halves
    paired: bool

    @property
    def unpacked(self) -> UnpackedK:
        return (PairedK if self.paired else UnpackedK)(self.blocks, self.halves)

    def body(self, tile: Tile) -> None:
        code, count = tile.code, 2 * tile.height

        def pair(number: Index) -> Pair:
            first, second = (
                self.halves(Unit(code, self.blocks, code.at(tile.packed, c * code.lanes), number))
                for c in (0, 1)
            )
            return first, second

        def block(number: Value, totals: tuple[Value, ...]) -> list[Value]:
            rows = records_of(tile, number)

            def half(index: Value, sums: tuple[Value, ...]) -> list[Value]:
                both = pair(code.add(code.mul(number, i64(2)), index))
                products = list(sums[:count])
                for q in range(UNIT // both[0].size):
                    x = Rows(code, rows, code.add(code.mul(index, i64(UNIT)), i64(q * both[0].size)))
                    dots = x.dots(both[0], partial(_codes, both, q), tile.height <= 3)
                    products = x.add_scaled(products, dots, [h.factors[q] for h in both])
                words = [shorts_of(code, h.minima) for h in both]
                start = code.mul(index, i64(len(words[0])))
                lows = add_minima(
                    tile, sums[count:], rows, both[0].size, start, list(zip(*words, strict=True))
                )
                return products + lows

            both = pair(code.mul(number, i64(2)))  # for its numbers; the rest is not emitted
            zeros = [code.nothing] * (count if both[0].least is None else 2 * count)
            sums = code.loop(0, 2, 1, half, zeros)
            scales = [h.scale for h in both]
            leasts = [code.fneg(h.least) for h in both if h.least is not None]
            return add_block(tile, totals, rows, sums, scales, leasts)

        tile.write(code.loop(0, code.sdiv(tile.depth, i64(X.block)), 1, block, tile.none))


def _codes(pair: Pair, run: int, group: int) -> list[Value]:
    return [half.codes(run, group) for half in pair]
