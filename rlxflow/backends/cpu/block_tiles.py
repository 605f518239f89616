"""The micro-kernels of block formats: one that reads x as int8, one that reads x as f32.

Both unpack a vector of weights once for all rows of a tile. Where there are more rows than a few, a panel is
unpacked once for all of them, to memory of the thread, see `Unpacked`. Whatever the height of its tile, a row
is summed over k in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import ClassVar

import numpy as np

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import F32, I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import ROW_ARGUMENTS, UnpackedPanels
from rlxflow.backends.cpu.forms.f32 import F32Form
from rlxflow.backends.cpu.kernels.dot import dot4
from rlxflow.backends.cpu.kernels.pack_blocks import emit_pack_blocks
from rlxflow.backends.cpu.quantised import Layout, Quantised
from rlxflow.backends.cpu.target import Target, choose
from rlxflow.backends.cpu.tile import LINE, Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

BLOCK_X = Quantised(block=32, group=16)  # what all formats read: products of one x share it
X_WORDS = BLOCK_X.block_words(32)
# heights of tiles that are emitted, reading int8 and f32; a row of a tile holds four vectors, or two
INT8_HEIGHTS = {"avx512": (1, 2, 3, 6), "avx2": (1, 2), "vector128": (1, 2)}
F32_HEIGHTS = {"avx512": (1, 2, 4), "avx2": (1, 2, 4), "vector128": (1, 2, 4)}
FEW_TILES = 4  # of the largest height that reads int8: more are worth an unpacked panel
PROBE = choose("x86_64", "", {})
Runs = list[tuple[Run, Run]]  # of a unit, in both vectors of a panel
Step = Callable[[Value, tuple[Value, ...]], Iterable[Value]]


@dataclass(frozen=True)
class BlockForm:
    """See `Form`. `x` is BLOCK_X, or None."""

    blocks: Blocks
    x: Layout | None
    starts: ClassVar[None] = None

    @property
    def name(self) -> str:
        return f"{self.blocks.dtype.name}.{'f32' if self.x is None else 'int8'}"

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.blocks.dtype.name,)

    def words(self, depth: int) -> int:
        return self.blocks.words(depth)

    def encode(self, rows: Array) -> Array:
        return np.ascontiguousarray(rows)

    @property
    def packer(self) -> str:
        return f"pack_{self.blocks.dtype.name}"

    def pack(self, module: Module) -> None:
        emit_pack_blocks(module, self.blocks, self.packer)

    def row(self, module: Module, depth: int) -> Value:
        panel, unit = module.target.panel, self.blocks.unit

        def body(code: Code, packed: Value, number: Value, out: Value) -> None:
            room = _room(code, unit)
            lane = code.srem(number, i64(panel))
            first = code.at(packed, code.mul(code.sdiv(number, i64(panel)), i64(self.words(depth) * panel)))

            def step(index: Value, _: tuple[Value, ...]) -> None:
                code.call(_unpack(module, self.blocks), [first, index, room])
                start = code.mul(index, i64(unit))

                def element(k: Value, _: tuple[Value, ...]) -> None:
                    place = code.at(room, code.add(code.mul(k, i64(panel)), lane))
                    code.put(code.load(place, typ=F32), out, code.add(start, k))

                code.loop(0, unit, 1, element)

            code.loop(0, depth // unit, 1, step)

        return module.function(("row", self.blocks.dtype.name, depth), ROW_ARGUMENTS, body)

    @property
    def unpacked(self) -> UnpackedPanels:
        return Unpacked(self.blocks, self.x)

    def tile_rows(self, target: Target) -> int:
        return self._heights(target)[-1]

    def _heights(self, target: Target) -> tuple[int, ...]:
        return (F32_HEIGHTS if self.x is None else INT8_HEIGHTS)[target.name]

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        """See `Form`. It fetches nothing ahead: the processor does, panels being one stream of memory."""
        largest = max(h for h in self._heights(module.target) if h <= height)

        def body(tile: Tile) -> None:
            if largest == height:
                self.body(tile)
                return
            # a height that is rare, as two of others: there is that much less to compile
            code, first = tile.code, 0
            for part in (largest, height - largest):
                x, out = (
                    code.at(p, code.mul(i64(first), s))
                    for p, s in ((tile.x, tile.x_stride), (tile.out, tile.out_stride))
                )
                arguments = [
                    x,
                    tile.starts,
                    tile.packed,
                    tile.ahead,
                    tile.pace,
                    out,
                    tile.depth,
                    tile.x_stride,
                    tile.out_stride,
                ]
                code.call(self.tile(module, part, shared), arguments)
                first += part

        return micro_kernel(module, self.name, height, False, body)

    def body(self, tile: Tile) -> None:
        """Write the sums of a tile."""
        if self.x is None:
            _f32_tile(tile, self.blocks)
        else:
            _int8_tile(tile, self.blocks.unit, lambda n: _both(tile.code, self.blocks, tile.packed, n))


@dataclass(frozen=True)
class Unpacked:
    """See `UnpackedPanels`. f32 weights lie as those of `F32Form`; for int8 x, run by run: the scale, the low
    where there is one, and a code per byte."""

    blocks: Blocks
    x: Layout | None

    @property
    def name(self) -> str:
        """Of its tiles: all formats whose runs are alike share them."""
        if self.x is None:
            return F32Form().name
        run = _kind_of_run(self.blocks)
        kind = (run.size, run.zero, run.low is not None)
        return f"unpacked {kind}"

    def words(self, depth: int) -> int:
        if self.x is None:
            return depth
        run = _kind_of_run(self.blocks)
        return depth // run.size * (_codes_at(run) + run.size // 4)

    def tile_rows(self, target: Target) -> int:
        return F32Form().tile_rows(target) if self.x is None else INT8_HEIGHTS[target.name][-1]

    def least_rows(self, target: Target) -> int:
        """See `UnpackedPanels`."""
        if self.x is not None:
            return FEW_TILES * INT8_HEIGHTS[target.name][-1] + 1
        return max(F32_HEIGHTS[target.name][-1] + 1, -(-target.tile_rows // 2))

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        if self.x is None:
            return F32Form().tile(module, height, shared)
        run, panel = _kind_of_run(self.blocks), module.target.panel

        def body(tile: Tile) -> None:
            code = tile.code

            def read(number: Value) -> Runs:
                tile.fetch(number)
                following = tile.line(code.mul(code.add(number, i64(1)), i64(self.words(32))))
                for line in range(0, self.words(32) * panel, LINE):
                    code.prefetch(following, line)
                found: Runs = []
                for start in range(0, 32, run.size):
                    word = code.add(code.mul(number, i64(self.words(32))), i64(self.words(start)))
                    places = (code.at(tile.line(word), c * code.lanes) for c in (0, 1))
                    first, second = (_unpacked_run(code, run, start, place) for place in places)
                    found.append((first, second))
                return found

            _int8_tile(tile, 32, read)

        return micro_kernel(module, self.name, height, shared, body)

    def unpack(self, module: Module) -> Value:
        """See `UnpackedPanels`."""
        blocks, panel = self.blocks, module.target.panel

        def body(code: Code, packed: Value, depth: Value, room: Value) -> None:
            def unit(number: Value, _: tuple[Value, ...]) -> None:
                line = code.at(room, code.mul(number, i64(self.words(blocks.unit) * panel)))
                if self.x is None:
                    code.call(_unpack(module, blocks), [packed, number, line])
                    return
                for index, pair in enumerate(_both(code, blocks, packed, number)):
                    own = code.at(line, index * self.words(pair[0].size) * panel)
                    for c, run in enumerate(pair):
                        _write_run(code, run, code.at(own, c * code.lanes))

            code.loop(0, code.sdiv(depth, i64(blocks.unit)), 1, unit)

        return module.function(("unpack panel", self.blocks.dtype.name, self.name), [PTR, I64, PTR], body)


@cache
def _kind_of_run(blocks: Blocks) -> Run:
    """A run of the blocks, for what is the same in all of them; its values are of no use."""
    found: list[Run] = []

    def body(code: Code, packed: Value) -> None:
        found.extend(blocks.runs(Unit(code, blocks, packed, i64(0))))

    Module(PROBE).function("probe", [PTR], body)
    return found[0]


def _codes_at(run: Run) -> int:
    """The word of an unpacked run where its codes begin."""
    return 1 + (run.low is not None)


def _write_run(code: Code, run: Run, line: Value) -> None:
    """Unpack a run in one vector of a panel."""
    panel = code.owner.target.panel
    lows = [] if run.low is None else [run.low]
    for word, value in enumerate([run.scale, *lows, *map(run.codes, range(run.size // 4))]):
        code.put_as(value, code.at(line, word * panel))


def _unpacked_run(code: Code, kind: Run, start: int, line: Value) -> Run:
    """What `_write_run` wrote."""
    panel, first = code.owner.target.panel, _codes_at(kind)

    def word(index: int) -> Value:
        return code.get_as(line, code.ints, index * panel)

    return Run(
        start, kind.size, lambda g: word(first + g), code.get_vector(line, 0), kind.zero,
        None if kind.low is None else code.get_vector(line, panel),
    )  # fmt: skip


def forms_of(blocks: Blocks) -> tuple[BlockForm, BlockForm]:
    """The forms of a format: x as int8, and x as f32."""
    return BlockForm(blocks, BLOCK_X), BlockForm(blocks, None)


def _both(code: Code, blocks: Blocks, packed: Value, number: Value) -> Runs:
    """The runs of a unit in both vectors of a panel."""
    first, second = (blocks.runs(Unit(code, blocks, code.at(packed, c * code.lanes), number)) for c in (0, 1))
    return list(zip(first, second, strict=True))


def _int8_tile(tile: Tile, unit: int, runs: Callable[[Value], Runs]) -> None:
    """Σ over the runs of all units of s·(scale·Σ q·(code - zero) - low·Σ q); inner sums in i32."""
    code, rows, height = tile.code, tile.rows(), tile.height

    def step(number: Value, sums: tuple[Value, ...]) -> list[Value]:
        new = list(sums)
        first = code.mul(number, i64(unit // 32 * X_WORDS))
        records = [code.at(row, first) for row in rows]
        for pair in runs(number):
            block, within = divmod(pair[0].start, 32)
            xs = [_X(code, code.at(r, block * X_WORDS), within, pair[0].size) for r in records]
            dots = _dots(code, pair, xs, height <= 3)
            for r in range(height):
                for c, run in enumerate(pair):
                    scaled = code.fmul(code.sitofp(dots[r][c], code.vector), run.scale)
                    total = code.fma_(scaled, code.splat(xs[r].scale), new[2 * r + c])
                    if run.low is not None:
                        total = code.fma_(run.low, xs[r].minus_scaled_sum, total)
                    new[2 * r + c] = total
        return new

    _run(tile, unit, step)


def _dots(code: Code, pair: tuple[Run, Run], xs: list[_X], ordered: bool) -> list[list[Value]]:
    """Σ q·(code - zero) of a run in both vectors, for every row of x: i32."""
    zero = code.fill_int(pair[0].zero)
    dots = [[code.mul(x.minus_sum(0, pair[0].size), zero)] * 2 for x in xs]
    for g in range(pair[0].size // 4):
        if ordered:
            code.in_order()  # or else the compiler mixes loads, and the processor fetches less ahead
        words = [run.codes(g) for run in pair]
        for r, x in enumerate(xs):
            four = x.four(g)
            dots[r] = [dot4(code, dots[r][c], words[c], four) for c in (0, 1)]
    return dots


class _X:
    """A run of a row of x: see `Quantised`."""

    def __init__(self, code: Code, block: Value, within: int, size: int) -> None:
        self._code, self._block, self._within, self._size = code, block, within, size
        self._first = BLOCK_X.values_at(32) + within // 4
        self.scale = code.get(block)

    def minus_sum(self, first: int, size: int) -> Value:
        """-Σ q of some elements of the run, in every lane."""
        code, start = self._code, self._within + first
        sums = [code.get(self._block, 1 + g, I32) for g in range(start // 16, (start + size) // 16)]
        return code.splat(sums[0] if len(sums) == 1 else code.add(*sums))

    def four(self, group: int) -> Value:
        """Four of its q in every lane."""
        return self._code.splat(self._code.get(self._block, self._first + group, I32))

    @property
    def minus_scaled_sum(self) -> Value:
        """-s·Σ q of the run, in every lane."""
        code = self._code
        if self._size == 32:
            return code.splat(code.get(self._block, 3))
        total = code.sitofp(self.minus_sum(0, self._size), code.vector)
        return code.fmul(code.splat(self.scale), total)


def _f32_tile(tile: Tile, blocks: Blocks) -> None:
    """Σ x·w, with the very w that `dequantize` gives; a unit at a time is unpacked to the stack."""
    code, rows = tile.code, tile.rows()
    panel = code.owner.target.panel
    room = _room(code, blocks.unit)

    def step(number: Value, sums: tuple[Value, ...]) -> Iterable[Value]:
        code.call(_unpack(code.owner, blocks), [tile.packed, number, room])
        first = code.mul(number, i64(blocks.unit))
        places = [code.at(row, first) for row in rows]

        def element(k: Value, kept: tuple[Value, ...]) -> list[Value]:
            line = code.mul(k, i64(panel))
            values = [_own(code, room, code.add(line, i64(c * code.lanes))) for c in (0, 1)]
            return tile.add_products(kept, places, k, values)

        return code.loop(0, blocks.unit, 1, element, sums)

    _run(tile, blocks.unit, step)


def _room(code: Code, unit: int) -> Value:
    """Stack for the f32 weights of a unit; no buffer that checked mode knows."""
    room = code.alloca(F32, i64(unit * code.owner.target.panel))
    room.align = 64
    return room


def _own(code: Code, room: Value, index: Value) -> Value:
    """A vector of such stack."""
    return code.load(code.at(room, index), typ=code.vector, align=4 * code.lanes)


def _unpack(module: Module, blocks: Blocks) -> Value:
    """The function (panel, number of a unit, room) that writes the weights of a unit, f32 [unit, panel]."""
    panel, lanes = module.target.panel, module.target.lanes

    def body(code: Code, packed: Value, number: Value, room: Value) -> None:
        for pair in _both(code, blocks, packed, number):
            for g in range(pair[0].size // 4):
                for c, run in enumerate(pair):
                    word = run.codes(g)
                    for i in range(4):
                        place = code.at(room, (pair[0].start + 4 * g + i) * panel + c * lanes)
                        code.store(_value(code, run, word, 4 * g + i), place, align=4 * lanes)

    return module.function(("unpack", blocks.dtype.name), [PTR, I64, PTR], body)


def _value(code: Code, run: Run, word: Value, index: int) -> Value:
    """The f32 weights of element `index` of a run, whose codes are in the word."""
    number = code.and_(code.lshr(word, code.fill_int(8 * (index % 4))), code.fill_int(255))
    number = code.sub(number, code.fill_int(run.zero))
    value = code.fmul(code.sitofp(number, code.vector), run.scale)
    return value if run.low is None else code.fsub(value, run.low)


def _run(tile: Tile, unit: int, step: Step) -> None:
    """All units of a row; the sums are written."""
    units = tile.code.sdiv(tile.depth, i64(unit))
    tile.write(tile.code.loop(0, units, 1, step, tile.none))
