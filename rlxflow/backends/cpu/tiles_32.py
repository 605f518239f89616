"""The micro-kernels of formats with blocks of 32 that read x as int8: from packed and from unpacked panels.

With codes signed and x as in `Quantised32`, Σ w·x is the sum over groups of M times that over blocks of

    scale·p·(Σ code·q - z·Σ code) - low·p·Σ (q - z).

Where dot products and multiplications share their units (Zen 4), what a block costs beside its dot products
decides: here one multiplication, for p and z act by sums and shifts of integers: an integer added to the bits
of a large float is one in units of the float's last bit. Inner sums are exact, outer ones taken in one
order: a row has the same bits whatever kernel reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from llvmlite import ir

from rlxflow.backends.cpu.block_tiles import INT8_HEIGHTS, PROBE, BlockForm
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import F32, I8, I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.dot import dot4
from rlxflow.backends.cpu.quantised import Quantised32
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.quick_dataclass import dataclass

X = Quantised32


@dataclass(frozen=True)
class Block:
    """A block of weights in one vector of a panel: `codes` (g) emits four signed codes of every lane; `minus`
    is -Σ code, i32, where that is known; `low` is None where it is 0."""

    scale: Value
    low: Value | None
    minus: Value | None
    codes: Callable[[int], Value]


Pair = tuple[Block, Block]  # in both vectors of a panel


def forms_32(blocks: Blocks, plain: bool = False) -> tuple[BlockForm, BlockForm]:
    """The forms of a format with blocks of 32: x as int8, and x as f32. `plain`: words are signed codes."""
    return Form32(blocks, X(_has_low(blocks)), plain=plain), BlockForm(blocks, None)


@dataclass(frozen=True)
class Form32(BlockForm):
    """See `Form`."""

    plain: bool = False

    @property
    def unpacked(self) -> Unpacked32:
        return Unpacked32(self.blocks, self.plain)

    def body(self, tile: Tile) -> None:
        _sums(tile, lambda number: _packed(tile.code, self.blocks, tile.packed, number))


@dataclass(frozen=True)
class Unpacked32:
    """See `UnpackedPanels`. Words of a block: scale, low if there is one, -Σ code, a signed code per byte.

    Plain codes stay where they are: in front of the blocks lies the address of the packed panel.
    """

    blocks: Blocks
    plain: bool

    @property
    def name(self) -> str:
        """Of its tiles: formats that are alike share them."""
        return f"unpacked 32{' with low' * self._has_low}{' plain' * self.plain}"

    @property
    def _has_low(self) -> bool:
        return _has_low(self.blocks)

    @property
    def _block(self) -> int:
        return 2 + self._has_low + (0 if self.plain else X.block // 4)

    def words(self, depth: int) -> int:
        return self.plain + depth // X.block * self._block

    def tile_rows(self, target: Target) -> int:
        return INT8_HEIGHTS[target.name][-1]

    def least_rows(self, target: Target) -> int:
        """See `UnpackedPanels`."""
        return self.tile_rows(target) + 1

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        each = -(-self.blocks.words(2 * X.block) // 2)  # words of a packed block, about

        def body(tile: Tile) -> None:
            code = tile.code
            packed = code.get(tile.packed, 0, PTR) if self.plain else None

            def one(number: Value, c: int) -> Block:
                line = code.at(tile.line(self._start(code, number)), c * code.lanes)
                own = (
                    None
                    if packed is None
                    else Unit(code, self.blocks, code.at(packed, c * code.lanes), number)
                )
                return self._read(code, line, own)

            def read(number: Value) -> Pair:
                tile.fetch(code.mul(number, i64(each)))
                return one(number, 0), one(number, 1)

            _sums(tile, read)

        return micro_kernel(module, self.name, height, shared, body)

    def _start(self, code: Code, number: Value) -> Value:
        """The word where a block begins."""
        return code.add(code.mul(number, i64(self._block)), i64(int(self.plain)))

    def _read(self, code: Code, line: Value, packed: Unit | None) -> Block:
        panel, low = code.owner.target.panel, self._has_low

        def word(index: int) -> Value:
            return code.get_as(line, code.ints, index * panel)

        least = code.get_vector(line, panel) if low else None
        codes = packed.word if packed is not None else lambda g: word(2 + low + g)
        return Block(code.get_vector(line, 0), least, word(1 + low), codes)

    def unpack(self, module: Module) -> Value:
        """See `UnpackedPanels`."""
        panel = module.target.panel

        def body(code: Code, packed: Value, depth: Value, room: Value) -> None:
            if self.plain:
                code.put(packed, room)

            def block(number: Value, _: tuple[Value, ...]) -> None:
                line = code.at(room, code.mul(self._start(code, number), i64(panel)))
                for c, own in enumerate(_packed(code, self.blocks, packed, number)):
                    lows, total = [] if own.low is None else [own.low], code.nothing
                    codes = [own.codes(g) for g in range(X.block // 4)]
                    for four in codes:
                        total = _plus_codes(code, total, four)
                    codes = [] if self.plain else codes
                    for word, value in enumerate([own.scale, *lows, code.neg(total), *codes]):
                        code.put_as(value, line, word * panel + c * code.lanes)

            code.loop(0, code.sdiv(depth, i64(X.block)), 1, block)

        return module.function(("unpack panel", self.blocks.dtype.name, self.name), [PTR, I64, PTR], body)


@cache
def _has_low(blocks: Blocks) -> bool:
    found: list[Run] = []

    def body(code: Code, packed: Value) -> None:
        found.extend(blocks.runs(Unit(code, blocks, packed, i64(0))))

    Module(PROBE).function("probe", [PTR], body)
    return found[0].low is not None


def _packed(code: Code, blocks: Blocks, panel: Value, number: Value) -> Pair:
    """A block of a packed panel."""

    def one(start: Value) -> Block:
        (run,) = blocks.runs(Unit(code, blocks, start, number))
        return Block(run.scale, run.low, None, lambda g: _signed(code, run, g))

    return one(panel), one(code.at(panel, code.lanes))


def _signed(code: Code, run: Run, group: int) -> Value:
    """code - zero in every byte."""
    word = run.codes(group)
    if not run.zero:
        return word
    kind = ir.VectorType(I8, 4 * code.lanes)
    number = ir.Constant(I8, run.zero - 256 if run.zero > 127 else run.zero)
    return code.bitcast(
        code.sub(code.bitcast(word, kind), ir.Constant(kind, [number] * kind.count)), word.type
    )


def _sums(tile: Tile, read: Callable[[Value], Pair]) -> None:
    """All sums of a tile; `read` gives a block of weights.

    Sums are in units of M of their group: what comes before a group is brought to its unit.
    """
    code, rows = tile.code, tile.rows()
    count = code.sdiv(tile.depth, i64(X.block))
    behind = i64(X.words)  # from the first word of a group to one that is M

    def group(first: Value, sums: tuple[Value, ...]) -> Iterable[Value]:
        stop = code.minimum(code.add(first, i64(X.group)), count)
        start = code.mul(first, i64(X.words))
        before = code.select(
            code.icmp_signed("==", first, i64(0)), start, code.sub(start, i64(X.group * X.words))
        )
        before = code.add(before, behind)
        ratios = [code.splat(code.fmul(code.get(row, before), code.get(row, start))) for row in rows]
        sums = tuple(code.fmul(total, ratios[i // 2]) for i, total in enumerate(sums))
        return code.loop(first, stop, 1, lambda number, sums: _add(tile, rows, read, number, sums), sums)

    sums = code.loop(0, count, X.group, group, tile.none)
    last = code.sub(count, i64(1))
    last = code.add(code.mul(code.sub(last, code.srem(last, i64(X.group))), behind), behind)
    units = [tile.splat(row, last) for row in rows]
    tile.write([code.fmul(total, units[i // 2]) for i, total in enumerate(sums)])


def _add(
    tile: Tile, rows: list[Value], read: Callable[[Value], Pair], number: Value, sums: tuple[Value, ...]
) -> list[Value]:
    """Sums of a group + a block."""
    code, new = tile.code, []
    pair = read(number)
    records = [code.at(row, code.mul(number, i64(X.words))) for row in rows]
    dots = _dots(code, records, pair, tile.height <= 3)
    for r, record in enumerate(records):
        bias = code.splat(code.get(record, 1, I32))
        for c, block in enumerate(pair):
            scaled = code.bitcast(code.add(dots[r][c], bias), code.vector)
            scaled = code.fsub(scaled, code.bitcast(bias, code.vector))
            total = code.fma_(scaled, block.scale, sums[2 * r + c])
            if block.low is not None:
                total = code.fma_(block.low, code.splat(code.get(record, 3, F32)), total)
            new.append(total)
    return new


def _dots(code: Code, records: list[Value], pair: Pair, ordered: bool) -> list[list[Value]]:
    """Σ code·(q - z) of a block in both vectors, for every row."""
    minus, totals = [block.minus for block in pair], [code.nothing] * 2
    known = None not in minus

    def shifted(values: list[Value]) -> list[list[Value]]:
        zeros = (code.splat(code.get(record, 2, I32)) for record in records)
        return [[_shifted(code, value, zero) for value in values] for zero in zeros]

    dots = shifted(minus) if known else [totals for _ in records]
    for g in range(X.block // 4):
        if ordered:
            code.in_order()  # or else the compiler mixes loads, and the processor fetches less ahead
        words = [block.codes(g) for block in pair]
        if not known:
            totals = [_plus_codes(code, *both) for both in zip(totals, words, strict=True)]
        for r, record in enumerate(records):
            four = code.splat(code.get(record, X.values + g, I32))
            dots[r] = [dot4(code, dots[r][c], four, words[c]) for c in (0, 1)]
    if known:
        return dots
    return [
        [code.sub(a, b) for a, b in zip(*row, strict=True)] for row in zip(dots, shifted(totals), strict=True)
    ]


def _plus_codes(code: Code, total: Value, word: Value) -> Value:
    """total + Σ of the codes of a word."""
    return dot4(code, total, code.fill_int(0x01010101), word)


def _shifted(code: Code, value: Value, count: Value) -> Value:
    """value << count per lane; by the instruction that takes counts from memory, where there is one."""
    if code.lanes < 16 or "x86" not in code.owner.target.triple:
        return code.shl(value, count)
    shift = code.owner.intrinsic("llvm.x86.avx512.psllv.d.512", code.ints, [code.ints] * 2)
    return code.call(shift, [value, count])
