"""The micro-kernels of K-quants that read x as int8: from packed panels, and from unpacked ones.

Sums within a block are exact integers, see `k_blocks.py`, and blocks are summed in one order: a row has the
same bits whatever kernel reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

from rlxflow.backends.cpu.block_tiles import FEW_TILES, INT8_HEIGHTS, PROBE, BlockForm
from rlxflow.backends.cpu.blocks import Blocks, Unit, Word
from rlxflow.backends.cpu.code import F32, I32, I64, PTR, Code, Index, Module, Value, i64
from rlxflow.backends.cpu.k_blocks import UNIT, Half, Halves, runs_of
from rlxflow.backends.cpu.kernels.dot import dot2, dot4, shifted
from rlxflow.backends.cpu.quantised import QuantisedK
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import LINE, Tile, micro_kernel
from rlxflow.dtypes import DType
from rlxflow.quick_dataclass import dataclass

X = QuantisedK()
STEP = 32  # elements of an unpacked panel that are multiplied in one go
Pair = tuple[Half, Half]  # in both vectors of a panel
Read = Callable[[int], Sequence[Value]]  # word g of something in both vectors


def k_forms(
    dtype: DType,
    halves: Halves,
    numbers: int,
    *,
    last: bool = False,
    arrange: Callable[[Code, Word], Iterable[Value]] | None = None,
) -> tuple[BlockForm, BlockForm]:
    """The forms of a K-quant with so many float16 numbers: x as int8, and x as f32."""
    blocks = Blocks(dtype, UNIT, numbers, runs_of(halves), halves_last=last, arrange=arrange)
    return KForm(blocks, X, halves), BlockForm(blocks, None)


@dataclass(frozen=True)
class KForm(BlockForm):
    """See `Form`."""

    halves: Halves

    @property
    def unpacked(self) -> UnpackedK:
        return UnpackedK(self.blocks, self.halves)

    def body(self, tile: Tile) -> None:
        code, count = tile.code, 2 * tile.height

        def pair(number: Index) -> Pair:
            first, second = (
                self.halves(Unit(code, self.blocks, code.at(tile.packed, c * code.lanes), number))
                for c in (0, 1)
            )
            return first, second

        def block(number: Value, totals: tuple[Value, ...]) -> list[Value]:
            rows = _records(tile, number)

            def half(index: Value, sums: tuple[Value, ...]) -> list[Value]:
                both = pair(code.add(code.mul(number, i64(2)), index))
                products = list(sums[:count])
                for q in range(UNIT // both[0].size):
                    x = _X(code, rows, code.add(code.mul(index, i64(UNIT)), i64(q * both[0].size)))
                    dots = x.dots(both[0], partial(_codes, both, q), tile.height <= 3)
                    products = x.add_scaled(products, dots, [h.factors[q] for h in both])
                words = [_shorts(code, h.minima) for h in both]
                start = code.mul(index, i64(len(words[0])))
                lows = _add_minima(
                    tile, sums[count:], rows, both[0].size, start, list(zip(*words, strict=True))
                )
                return products + lows

            both = pair(code.mul(number, i64(2)))  # for its numbers; the rest is not emitted
            zeros = [code.nothing] * (count if both[0].least is None else 2 * count)
            sums = code.loop(0, 2, 1, half, zeros)
            scales = [h.scale for h in both]
            leasts = [code.fneg(h.least) for h in both if h.least is not None]
            return _add_block(tile, totals, rows, sums, scales, leasts)

        tile.write(code.loop(0, code.sdiv(tile.depth, i64(X.block)), 1, block, tile.none))


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
        return INT8_HEIGHTS[target.name][-1]

    def least_rows(self, target: Target) -> int:
        """See `UnpackedPanels`."""
        return FEW_TILES * self.tile_rows(target) + 1

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        kind, panel = self._kind, module.target.panel
        per_step = STEP // kind.size

        def body(tile: Tile) -> None:
            code = tile.code

            def block(number: Value, totals: tuple[Value, ...]) -> list[Value]:
                rows, line = (
                    _records(tile, number),
                    code.at(tile.packed, code.mul(number, i64(self._block * panel))),
                )

                def numbers(word: int) -> list[Value]:
                    return [code.get_vector(line, word * panel + c * code.lanes) for c in (0, 1)]

                def step(index: Value, sums: tuple[Value, ...]) -> list[Value]:
                    tile.fetch(code.add(code.mul(number, i64(X.block // STEP)), index))
                    here = code.at(
                        line,
                        code.mul(code.add(code.mul(index, i64(self._step)), i64(self._head)), i64(panel)),
                    )
                    for word in range(0, self._step * panel, LINE):
                        code.prefetch(here, self._step * panel + word)
                    products = list(sums)
                    for q in range(per_step):
                        x = _X(code, rows, code.add(code.mul(index, i64(STEP)), i64(q * kind.size)))
                        first = code.at(here, (per_step + q * kind.size // 4) * panel)
                        dots = x.dots(kind, partial(_both, code, first))
                        products = x.add_scaled(products, dots, _both(code, here, q))
                    return products

                sums = code.loop(0, X.block // STEP, 1, step, [code.nothing] * (2 * height))
                words = [_both(code, line, 2 + i) for i in range(self._minima)]
                lows = _add_minima(tile, [code.nothing] * (2 * height), rows, kind.size, i64(0), words)
                leasts = numbers(1) if self._minima else []
                return _add_block(tile, totals, rows, [*sums, *lows], numbers(0), leasts)

            tile.write(code.loop(0, code.sdiv(tile.depth, i64(X.block)), 1, block, tile.none))

        return micro_kernel(module, self.name, height, shared, body)

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
            shorts = _shorts(code, half.minima)
            own = code.at(line, code.mul(index, i64(len(shorts) * panel)))
            for i, word in enumerate(shorts):
                code.put_as(word, own, (2 + i) * panel)
        own = code.at(line, code.mul(index, i64(steps * self._step * panel)))
        for q, factor in enumerate(half.factors):
            step, within = divmod(q, per_step)
            first = self._head + step * self._step
            code.put_as(factor, own, (first + within) * panel)
            for g in range(half.size // 4):
                word = first + per_step + within * half.size // 4 + g
                code.put_as(half.codes(q, g), own, word * panel)


@cache
def _kind(halves: Halves, blocks: Blocks) -> Half:
    """Half a block, for what is the same in all of them; its values are of no use."""
    found: list[Half] = []

    def body(code: Code, packed: Value) -> None:
        found.append(halves(Unit(code, blocks, packed, i64(0))))

    Module(PROBE).function("probe", [PTR], body)
    return found[0]


def _codes(pair: Pair, run: int, group: int) -> list[Value]:
    return [half.codes(run, group) for half in pair]


def _both(code: Code, line: Value, word: int) -> list[Value]:
    """Both vectors of a word, as integers."""
    panel = code.owner.target.panel
    return [code.get_as(line, code.ints, word * panel + c * code.lanes) for c in (0, 1)]


def _shorts(code: Code, minima: Sequence[Value]) -> list[Value]:
    """Of four bytes the first and third, then the second and fourth, as i16: in the order of x's sums."""
    mask = code.fill_int(0x00FF00FF)
    return [code.and_(w, mask) for word in minima for w in (word, code.lshr(word, code.fill_int(8)))]


def _records(tile: Tile, number: Value) -> list[Value]:
    """Block `number` of all rows of x."""
    return [tile.code.at(row, tile.code.mul(number, i64(X.words))) for row in tile.rows()]


class _X:
    """A run of the rows of x, from element `start` of a block on."""

    def __init__(self, code: Code, rows: Sequence[Value], start: Value) -> None:
        self._code = code
        self._sums = [code.at(row, code.lshr(start, i64(4))) for row in rows]
        self._powers = [code.at(row, code.add(code.lshr(start, i64(5)), i64(X.powers))) for row in rows]
        self._values = [code.at(row, code.add(code.lshr(start, i64(2)), i64(X.values))) for row in rows]

    def dots(self, kind: Half, codes: Read, ordered: bool = False) -> list[Value]:
        """Σ (code - zero)·q of every row in both vectors, i32."""
        code = self._code
        if kind.zero:
            sums = [code.splat(code.get(row, 0, I32)) for row in self._sums]
            found = [total for total in sums for _ in (0, 1)]
        else:
            found = [code.nothing] * (2 * len(self._values))
        for g in range(kind.size // 4):
            if ordered:
                code.in_order()  # or else the compiler mixes loads, and the processor fetches less ahead
            words = codes(g)
            for r, row in enumerate(self._values):
                four = code.splat(code.get(row, g, I32))
                for c, word in enumerate(words):
                    found[2 * r + c] = dot4(code, found[2 * r + c], word, four)
        return found

    def add_scaled(
        self, sums: Sequence[Value], dots: Sequence[Value], factors: Sequence[Value]
    ) -> list[Value]:
        """Sums + factor·2ᵉ·dot; all are i32."""
        code, new = self._code, []
        for i, (total, dot) in enumerate(zip(sums, dots, strict=True)):
            power = code.splat(code.get(self._powers[i // 2], 0, I32))
            new.append(code.add(total, code.mul(shifted(code, dot, power), factors[i % 2])))
        return new


def _add_minima(
    tile: Tile,
    sums: Sequence[Value],
    rows: Sequence[Value],
    size: int,
    start: Value,
    words: Iterable[Sequence[Value]],
) -> list[Value]:
    """Sums + Σ minimum·Σ q of runs; `words` of minima, the first one is number `start` of the block."""
    code, new = tile.code, list(sums)
    for i, both in enumerate(words):
        for r, row in enumerate(rows):
            own = code.at(row, code.add(start, i64(X.shorts(size) + i)))
            x = code.splat(code.get(own, 0, I32))
            for c, word in enumerate(both):
                new[2 * r + c] = dot2(code, new[2 * r + c], word, x)
    return new


def _add_block(
    tile: Tile, totals: Sequence[Value], rows: Sequence[Value], sums: Sequence[Value],
    scales: Sequence[Value], leasts: Sequence[Value],
) -> list[Value]:  # fmt: skip
    """Totals + s·(scale·sum + least·sum of minima), the latter behind the former, where there are any."""
    code, new = tile.code, []
    for i, total in enumerate(totals):
        value = code.fmul(code.sitofp(sums[i], code.vector), scales[i % 2])
        if leasts:
            low = code.sitofp(sums[len(totals) + i], code.vector)
            value = code.fma_(low, leasts[i % 2], value)
        new.append(code.fma_(value, code.splat(code.get(rows[i // 2], X.scale, F32)), total))
    return new
