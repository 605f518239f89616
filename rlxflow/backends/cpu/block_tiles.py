"""Block formats as forms, and the micro-kernel that reads x as f32. As int8: `tiles_32.py`, `k_tiles.py`.

All unpack a vector of weights once for all rows of a tile. Where there are more rows than a few, a panel is
unpacked once for all of them, to memory of the thread, see `Unpacked`. Whatever the height of its tile, a row
is summed over k in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import F32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import ROW_ARGUMENTS, UnpackedPanels
from rlxflow.backends.cpu.forms.f32 import F32Form
from rlxflow.backends.cpu.kernels.pack_blocks import emit_pack_blocks
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target, choose
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

# heights of tiles that are emitted, reading int8 and f32; a row of a tile holds four vectors, or two
INT8_HEIGHTS = {"avx512": (1, 2, 3, 6), "avx2": (1, 2), "vector128": (1, 2)}
F32_HEIGHTS = {"avx512": (1, 2, 4), "avx2": (1, 2, 4), "vector128": (1, 2, 4)}
PROBE = choose("x86_64", "", {})
Step = Callable[[Value, tuple[Value, ...]], Iterable[Value]]


@dataclass(frozen=True)
class BlockForm:
    """See `Form`: weights in blocks, x as f32; of forms that read it as int8, what is the same."""

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
        return Unpacked(self.blocks)

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
        _f32_tile(tile, self.blocks)


@dataclass(frozen=True)
class Unpacked:
    """See `UnpackedPanels`: f32 weights as those of `F32Form`."""

    blocks: Blocks

    @property
    def name(self) -> str:
        """Of its tiles: all formats share them."""
        return F32Form().name

    def words(self, depth: int) -> int:
        return depth

    def tile_rows(self, target: Target) -> int:
        return F32Form().tile_rows(target)

    def least_rows(self, target: Target) -> int:
        """See `UnpackedPanels`."""
        return max(F32_HEIGHTS[target.name][-1] + 1, -(-target.tile_rows // 2))

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        return F32Form().tile(module, height, shared)

    def unpack(self, module: Module) -> Value:
        """See `UnpackedPanels`."""
        blocks, panel = self.blocks, module.target.panel

        def body(code: Code, packed: Value, depth: Value, room: Value) -> None:
            def unit(number: Value, _: tuple[Value, ...]) -> None:
                line = code.at(room, code.mul(number, i64(blocks.unit * panel)))
                code.call(_unpack(module, blocks), [packed, number, line])

            code.loop(0, code.sdiv(depth, i64(blocks.unit)), 1, unit)

        return module.function(("unpack panel", self.blocks.dtype.name, self.name), [PTR, I64, PTR], body)


def _both(code: Code, blocks: Blocks, packed: Value, number: Value) -> list[tuple[Run, Run]]:
    """The runs of a unit in both vectors of a panel."""
    first, second = (blocks.runs(Unit(code, blocks, code.at(packed, c * code.lanes), number)) for c in (0, 1))
    return list(zip(first, second, strict=True))


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
