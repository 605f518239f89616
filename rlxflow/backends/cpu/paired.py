"""f32 weights times x two elements at a time, by half as many multiplications (Winograd 1968).

    x1·w1 + x2·w2 = (x1 + w2)·(x2 + w1) - x1·x2 - w1·w2

The last two products belong to a row of x and to a row of weights alone: they are made once. What is left of
a pair is two sums and one product. Where a processor has units for sums beside those for products, see
`Target.sums_beside_products`, one of three elements is multiplied as always and two are a pair: both units
work all the time, and together 1.5 times as fast as products alone.

The price is rounding: x1·x2 and w1·w2 are in the sums for a while. So a row of weights is scaled by a power
of two, to a largest element from 1 to 2; x that is some orders larger or smaller loses as many digits. An
infinity in x makes NaN of its row, whatever the weights.
"""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import WordForm, words_of
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

PART = 16  # a third of a block: single elements, the first ones of pairs, the second ones
BLOCK = 3 * PART
LARGEST_SHIFT = 126  # of exponents: a scale and its inverse are finite


@dataclass(frozen=True)
class PairedForm(WordForm):
    """See `Form`. A row of words: its elements, a block in the order in which tiles read it (element j, and
    the pair 16 + j, 32 + j), what is left of a last block as it is; -Σ w1·w2; 1 / its scale."""

    name: str = "f32.paired"
    weights: tuple[str, ...] = ()  # `form_for` takes it by its name
    x: Layout | None = None
    row: None = None
    unpacked: None = None

    def words(self, depth: int) -> int:
        return depth + 2

    def encode(self, rows: Array) -> Array:
        rows = rows.astype(np.float32, copy=False)
        (count, depth), whole = rows.shape, rows.shape[1] // BLOCK * BLOCK
        words = np.empty((count, depth + 2), np.float32)  # filled in place: memory taken anew costs most
        read, kept = (a[:, :whole].reshape(count, -1, *s) for a, s in ((rows, (3, PART)), (words, (PART, 3))))
        with np.errstate(all="ignore"):  # weights that are not finite
            top = np.maximum(rows.max(1, initial=0), -rows.min(1, initial=0))
            shift = np.clip(1 - np.frexp(top)[1], -LARGEST_SHIFT, LARGEST_SHIFT)
            scale = np.ldexp(np.float32(1), shift)[:, None]
            for part in range(3):
                np.multiply(read[:, :, part], scale[:, None], out=kept[..., part])
            np.multiply(rows[:, whole:], scale, out=words[:, whole:depth])
            words[:, depth] = -np.einsum("nbj,nbj->n", kept[..., 1], kept[..., 2], dtype=np.float64)
            words[:, depth + 1] = np.where(top == 0, 0, np.ldexp(1.0, -shift))  # no rounding is left of zeros
        return words_of(words)

    def tile_rows(self, target: Target) -> int:
        """Fewer than of plain products: three vectors of weights are in registers, and sums of pairs."""
        return target.tile_rows * 5 // 7

    def starts(self, module: Module) -> Value:
        def body(code: Code, x: Value, depth: Value, out: Value) -> None:
            def block(k: Value, sums: tuple[Value, ...]) -> list[Value]:
                line = code.at(x, k)
                total = sums[0]
                for j in range(0, PART, code.lanes):
                    first, second = (code.get_vector(line, part * PART + j) for part in (1, 2))
                    total = code.fma_(first, second, total)
                return [total]

            (total,) = code.loop(0, _paired(code, depth), BLOCK, block, [code.zero])
            code.put(code.fneg(code.reduce(code.fadd, total)), out)

        return module.function(("starts", self.name), [PTR, I64, PTR], body)

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        def body(tile: Tile) -> None:
            code, paired = tile.code, _paired(tile.code, tile.depth)
            products, scales = tile.vectors(tile.depth), tile.vectors(code.add(tile.depth, i64(1)))
            starts = [code.splat(code.get(tile.starts, r)) for r in range(height)]
            sums = tuple(code.fadd(start, product) for start in starts for product in products)

            def block(k: Value, sums: tuple[Value, ...]) -> tuple[Value, ...]:
                rows = tile.rows(k)

                def step(j: Value, sums: tuple[Value, ...]) -> list[Value]:
                    word = code.add(k, code.mul(j, i64(3)))
                    return _add_three(tile, [code.at(row, j) for row in rows], word, sums)

                return code.loop(0, PART, 1, step, sums)

            sums = code.loop(0, paired, BLOCK, block, sums)
            rows = tile.rows()

            def rest(k: Value, sums: tuple[Value, ...]) -> list[Value]:
                tile.fetch(k)
                return tile.add_products(sums, rows, k, tile.vectors(k))

            sums = code.loop(paired, tile.depth, 1, rest, sums)
            tile.write([code.fmul(total, scales[i % 2]) for i, total in enumerate(sums)])

        return micro_kernel(module, self.name, height, shared, body)


def _paired(code: Code, depth: Value) -> Value:
    """Elements of whole blocks."""
    return code.mul(code.sdiv(depth, i64(BLOCK)), i64(BLOCK))


def _add_three(tile: Tile, rows: list[Value], word: Value, sums: tuple[Value, ...]) -> list[Value]:
    """Sums + three elements of every row, which begin at `rows`, times the words from `word` on.

    Every instruction reads its x from memory itself, and the single products of a row lie between sums and
    products of the pairs of the row before: so neither unit waits, and there are registers for all.
    """
    code, new = tile.code, list(sums)
    single, first, second = (tile.vectors(code.add(word, i64(i))) for i in range(3))

    def x(row: Value, part: int) -> Value:
        code.in_order()  # or else the compiler reads it once, to a register
        return tile.splat(row, i64(part * PART))

    def add_single(r: int) -> None:
        for c in (0, 1):
            new[2 * r + c] = code.fma_(x(rows[r], 0), single[c], new[2 * r + c])

    add_single(0)
    for r, row in enumerate(rows):
        if r < 3:
            tile.fetch(code.add(word, i64(r)))
        pairs = [(code.fadd(x(row, 1), second[c]), code.fadd(x(row, 2), first[c])) for c in (0, 1)]
        if r + 1 < len(rows):
            add_single(r + 1)
        for c, pair in enumerate(pairs):
            new[2 * r + c] = code.fma_(*pair, new[2 * r + c])
    return new
