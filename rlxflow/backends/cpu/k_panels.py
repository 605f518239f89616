"""Panels of K-quants unpacked for many rows of x in int8: a code per byte, integers of runs as i32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial

from rlxflow.backends.cpu.block_tiles import INT8_HEIGHTS, PROBE
from rlxflow.backends.cpu.blocks import Blocks, Unit
from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.k_blocks import UNIT, Half, Halves
from rlxflow.backends.cpu.k_rows import Rows, X, add_block, add_minima, records_of, shorts_of
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.quick_dataclass import dataclass

STEP = 32  # elements that are multiplied in one go
ROWS = 5  # of a tile: sums and dot products of more do not fit the registers
FEW_TILES = 3  # more are worth an unpacked panel


@dataclass(frozen=True)
class UnpackedK:
    """See `UnpackedPanels`. Words of a block: scale; -least and shorts of minima, where there are any; then
    for every 32 elements their factors, and a code per byte."""

    blocks: Blocks
    halves: Halves

    @property
    def name(self) -> str:
        """Of its tiles: formats that are alike share them."""
        return f"unpacked {(self._kind.size, self._kind.zero, self._minima)}"

    @property
    def _kind(self) -> Half:
        return _kind(self.halves, self.blocks)

    @property
    def _minima(self) -> int:
        """Words of minima."""
        return 0 if self._kind.least is None else X.block // self._kind.size // 2

    @property
    def _head(self) -> int:
        return 2 + self._minima if self._minima else 1

    @property
    def _step(self) -> int:
        return STEP // self._kind.size + STEP // 4

    @property
    def _block(self) -> int:
        return self._head + X.block // STEP * self._step

    def words(self, depth: int) -> int:
        return depth // X.block * self._block

    def tile_rows(self, target: Target) -> int:
        return min(ROWS, INT8_HEIGHTS[target.name][-1])

    def least_rows(self, target: Target) -> int:
        """See `UnpackedPanels`."""
        return FEW_TILES * self.tile_rows(target) + 1

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        kind, panel, each = self._kind, module.target.panel, self.blocks.words(X.block)

        def body(tile: Tile) -> None:
            code = tile.code

            def block(number: Value, totals: tuple[Value, ...]) -> list[Value]:
                rows, line = (
                    records_of(tile, number),
                    code.at(tile.packed, code.mul(number, i64(self._block * panel))),
                )

                def numbers(word: int) -> list[Value]:
                    return [code.get_vector(line, word * panel + c * code.lanes) for c in (0, 1)]

                def step(index: Value, sums: tuple[Value, ...]) -> list[Value]:
                    word = code.add(code.mul(number, i64(each)), code.mul(index, i64(each * STEP // X.block)))
                    tile.fetch(word)
                    here = code.at(
                        line,
                        code.mul(code.add(code.mul(index, i64(self._step)), i64(self._head)), i64(panel)),
                    )
                    return self.add_step(code, rows, index, here, sums)

                sums = code.loop(0, X.block // STEP, 1, step, [code.nothing] * (2 * height))
                words = [both_vectors(code, line, 2 + i) for i in range(self._minima)]
                lows = add_minima(tile, [code.nothing] * (2 * height), rows, kind.size, i64(0), words)
                leasts = numbers(1) if self._minima else []
                return add_block(tile, totals, rows, [*sums, *lows], numbers(0), leasts)

            tile.write(code.loop(0, code.sdiv(tile.depth, i64(X.block)), 1, block, tile.none))

        return micro_kernel(module, self.name, height, shared, body)

    def add_step(
        self, code: Code, rows: Sequence[Value], index: Value, line: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """Sums of a block, of records `rows` of x, + its step `index`, which begins at `line`."""
        size, new = self._kind.size, list(sums)
        for q in range(STEP // size):
            x = Rows(code, rows, code.add(code.mul(index, i64(STEP)), i64(q * size)))
            first = code.at(line, (STEP // size + q * size // 4) * code.owner.target.panel)
            dots = x.dots(self._kind, partial(both_vectors, code, first), ordered=True)
            new = x.add_scaled(new, dots, both_vectors(code, line, q))
        return new

    def unpack(self, module: Module) -> Value:
        """See `UnpackedPanels`."""
        panel, steps = module.target.panel, UNIT // STEP

        def body(code: Code, packed: Value, depth: Value, room: Value) -> None:
            def unit(number: Value, _: tuple[Value, ...]) -> None:
                index = code.and_(number, i64(1))
                line = code.at(room, code.mul(code.lshr(number, i64(1)), i64(self._block * panel)))
                for c in (0, 1):
                    half = self.halves(Unit(code, self.blocks, code.at(packed, c * code.lanes), number))
                    self._write(code, half, index, code.at(line, c * code.lanes), steps)

            code.loop(0, code.sdiv(depth, i64(UNIT)), 1, unit)

        return module.function(("unpack panel", self.blocks.dtype.name, self.name), [PTR, I64, PTR], body)

    def _write(self, code: Code, half: Half, index: Value, line: Value, steps: int) -> None:
        """Half `index` of a block in one vector of a panel; both halves write the numbers of the block."""
        panel, per_step = code.owner.target.panel, STEP // half.size
        code.put_vector(half.scale, line)
        if half.least is not None:
            code.put_vector(code.fneg(half.least), line, panel)
            shorts = shorts_of(code, half.minima)
            own = code.at(line, code.mul(index, i64(len(shorts) * panel)))
            for i, word in enumerate(shorts):
                code.put_as(word, own, (2 + i) * panel)
        own = code.at(line, code.mul(index, i64(steps * self._step * panel)))
        for q, factor in enumerate(half.factors):
            step, within = divmod(q, per_step)
            first = self._head + step * self._step
            code.put_as(factor, own, (first + within) * panel)
            for g, word in enumerate(self.code_words(code, half, q), within * half.size // 4):
                code.put_as(word, own, (first + per_step + g) * panel)

    def code_words(self, code: Code, half: Half, run: int) -> Iterable[Value]:
        """The words of a run's codes."""
        return (half.codes(run, g) for g in range(half.size // 4))


@cache
def _kind(halves: Halves, blocks: Blocks) -> Half:
    """Half a block, for what is the same in all of them; its values are of no use."""
    found: list[Half] = []

    def body(code: Code, packed: Value) -> None:
        found.append(halves(Unit(code, blocks, packed, i64(0))))

    Module(PROBE).function("probe", [PTR], body)
    return found[0]


def both_vectors(code: Code, line: Value, word: int) -> list[Value]:
    """Both vectors of a word, as integers."""
    panel = code.owner.target.panel
    return [code.get_as(line, code.ints, word * panel + c * code.lanes) for c in (0, 1)]
