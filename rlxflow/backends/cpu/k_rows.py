"""What the micro-kernels of K-quants do with rows of x in int8, see `QuantisedK`.

Sums within a block are exact integers, see `k_blocks.py`, and blocks are summed in one order: a row has the
same bits whatever kernel reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rlxflow.backends.cpu.code import F32, I32, Code, Value, i64
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.kernels.dot import dot2, dot4, shifted
from rlxflow.backends.cpu.quantised import QuantisedK
from rlxflow.backends.cpu.tile import Tile

X = QuantisedK()
Read = Callable[[int], Sequence[Value]]  # word g of something in both vectors


def records_of(tile: Tile, number: Value) -> list[Value]:
    """Block `number` of all rows of x."""
    return [tile.code.at(row, tile.code.mul(number, i64(X.words))) for row in tile.rows()]


class Rows:
    """A run of the rows of x, from element `start` of a block on."""

    def __init__(self, code: Code, rows: Sequence[Value], start: Value) -> None:
        self._code = code
        self._sums = [code.at(row, code.lshr(start, i64(4))) for row in rows]
        self._powers = [code.at(row, code.add(code.lshr(start, i64(5)), i64(X.powers))) for row in rows]
        self._pairs = [code.at(row, code.add(code.lshr(start, i64(5)), i64(X.pairs))) for row in rows]
        self._values = [code.at(row, code.add(code.lshr(start, i64(2)), i64(X.values))) for row in rows]
        self.count = len(rows)

    def four(self, row: int, word: int) -> Value:
        """A word of the run's q in all lanes."""
        return self._code.splat(self._code.get(self._values[row], word, I32))

    def pairs(self, row: int) -> Value:
        """What its q have to add where they were multiplied in pairs, in all lanes."""
        return self._code.splat(self._code.get(self._pairs[row], 0, I32))

    def dots(self, kind: Half, codes: Read, ordered: bool = False) -> list[Value]:
        """Σ (code - zero)·q of every row in both vectors, i32."""
        code = self._code
        if kind.zero:
            sums = [code.splat(code.get(row, 0, I32)) for row in self._sums]
            found = [total for total in sums for _ in (0, 1)]
        else:
            found = [code.nothing] * (2 * self.count)
        for g in range(kind.size // 4):
            if ordered:
                code.in_order()  # or else the compiler mixes loads: sums leave the registers, the processor
                # fetches less ahead
            words = codes(g)
            for r in range(self.count):
                four = self.four(r, g)
                for c, word in enumerate(words):
                    found[2 * r + c] = dot4(code, found[2 * r + c], word, four)
        return found

    def add_scaled(
        self, sums: Sequence[Value], dots: Sequence[Value], factors: Sequence[Value]
    ) -> list[Value]:
        """Sums + factor·2ᵉ·dot; all are i32."""
        found = zip(*(iter(sums),) * 2, strict=True), zip(*(iter(dots),) * 2, strict=True)
        rows = enumerate(zip(*found, strict=True))
        return [new for row, pairs in rows for new in self.add_scaled_row(row, *pairs, factors)]

    def add_scaled_row(
        self, row: int, sums: Sequence[Value], dots: Sequence[Value], factors: Sequence[Value]
    ) -> list[Value]:
        """The same of one row."""
        code = self._code
        power = code.splat(code.get(self._powers[row], 0, I32))
        return [
            code.add(total, code.mul(shifted(code, dot, power), factor))
            for total, dot, factor in zip(sums, dots, factors, strict=True)
        ]


def add_minima(
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


def add_block(
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


def shorts_of(code: Code, minima: Sequence[Value]) -> list[Value]:
    """Of four bytes the first and third, then the second and fourth, as i16: in the order of x's sums."""
    mask = code.fill_int(0x00FF00FF)
    return [code.and_(w, mask) for word in minima for w in (word, code.lshr(word, code.fill_int(8)))]
