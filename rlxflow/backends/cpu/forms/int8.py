"""int8 weights times int8 activations, with scales per row (output channel, token) and block of 64 of both.

In a block, w ≈ t·p with t = max|w| / 127, and x ≈ M·2ᵉ·(q - 128) (see `Quantised64`), so that

    Σ w·x ≈ M·2ᵉ·t·(Σ p·q - 128·Σ p);

the sums over p are integers, those of the blocks f32. Where dot products and multiplications share their
units (Zen 4), what a block costs beside its 16 dot products decides: here one multiplication, and half of
another one for M. The integers start from what 128 adds, and 2ᵉ is an addition to the bits of a float.

Whole blocks of both are rotated by a Hadamard matrix first (as in QuaRot, Ashkboos et al. 2024), so that a
block with one large element, as hidden states have them in a few columns, keeps the others: that halves the
distance to f32.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from rlxflow.backends.cpu.code import I32, Code, Module, Value, i64
from rlxflow.backends.cpu.form import WordForm, words_of
from rlxflow.backends.cpu.kernels.dot import dot4
from rlxflow.backends.cpu.quantised import Layout, Quantised64
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

X = Quantised64()
BLOCK = X.block  # 128: twice the distance to f32
HEAD = 2  # words before the p of a block


@dataclass(frozen=True)
class Int8Form(WordForm):
    """The words of a block: t, -128·Σ p, and its p, four to a word. The last block may be shorter."""

    name: str = "int8"
    weights: tuple[str, ...] = ("f32", "bf16", "f16")
    x: Layout | None = X
    row: None = None
    unpacked: None = None
    starts: None = None

    def words(self, depth: int) -> int:
        return -(-depth // 4) + HEAD * -(-depth // BLOCK)

    def encode(self, rows: Array) -> Array:
        w = rows.astype(np.float32, copy=False)
        parts = [_block(w[:, k : k + BLOCK]) for k in range(0, w.shape[1], BLOCK)]
        return np.hstack([word for part in parts for word in part])

    def tile_rows(self, target: Target) -> int:
        """Half as many as of f32: the sums of a block and those over blocks have a register each."""
        return target.tile_rows // 2

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        def body(tile: Tile) -> None:
            code, rows = tile.code, tile.rows()
            blocks = code.sdiv(code.add(tile.depth, i64(BLOCK - 1)), i64(BLOCK))

            def group(first: Value, totals: tuple[Value, ...]) -> tuple[Value, ...]:
                ratios = [tile.splat(row, code.add(_record(code, first), i64(1))) for row in rows]
                totals = tuple(code.fmul(total, ratios[i // 2]) for i, total in enumerate(totals))
                stop = code.minimum(code.add(first, i64(X.group)), blocks)
                return code.loop(first, stop, 1, partial(_add_block, tile, rows), totals)

            totals = code.loop(0, blocks, X.group, group, tile.none)
            units = [tile.splat(row, i64(0)) for row in rows]
            tile.write([code.fmul(total, units[i // 2]) for i, total in enumerate(totals)])

        return micro_kernel(module, self.name, height, shared, body)


def _record(code: Code, block: Value) -> Value:
    """The word of a row of x where a block begins."""
    return code.add(code.mul(block, i64(X.words)), i64(X.head))


def _add_block(tile: Tile, rows: list[Value], block: Value, totals: tuple[Value, ...]) -> list[Value]:
    """Sums in the unit of a group + those of one of its blocks."""
    code = tile.code
    start, record = code.mul(block, i64(BLOCK // 4 + HEAD)), _record(code, block)
    first = code.add(start, i64(HEAD))
    size = code.minimum(code.sub(tile.depth, code.mul(block, i64(BLOCK))), BLOCK)
    end = code.add(first, code.sdiv(code.add(size, i64(3)), i64(4)))
    behind = code.sub(code.add(record, i64(X.values)), first)
    codes = [code.at(row, behind) for row in rows]  # so that words of x and of weights have one number

    def step(word: Value, sums: tuple[Value, ...]) -> list[Value]:
        tile.fetch(word)
        return tile.add_products(sums, codes, word, tile.words(word), partial(dot4, code))

    dots = code.loop(first, end, 1, step, tile.words(code.add(start, i64(1))) * tile.height)
    scales, new = tile.vectors(start), []
    for i, (dot, total) in enumerate(zip(dots, totals, strict=True)):
        power = tile.splat(rows[i // 2], record, I32)
        bits = code.bitcast(code.sitofp(dot, code.vector), code.ints)
        number = code.bitcast(code.add(bits, power), code.vector)
        new.append(code.fma_(number, scales[i % 2], total))
    return new


def _block(w: Array) -> tuple[Array, Array, Array]:
    """A block of every row. NaN and infinities are left to the scale, which they make the same."""
    if w.shape[1] == BLOCK:
        w = _rotated(w) * np.float32(1 / BLOCK)
    top = np.abs(w).max(1, keepdims=True)
    with np.errstate(all="ignore"):  # a block of zeros
        p = np.nan_to_num(np.rint(w * (np.float32(127) / top)), nan=0.0, posinf=0.0, neginf=0.0)
    start = -128 * p.sum(1, keepdims=True, dtype=np.int32)
    return words_of(top / np.float32(127)), words_of(start), words_of(p.astype(np.int8))


def _rotated(w: Array) -> Array:
    """H·w of every row, by sums in a fixed order: packed bits are the same on every machine."""
    half = w.shape[1] // 2
    with np.errstate(all="ignore"):
        for _ in range(w.shape[1].bit_length() - 1):
            low, high = w[:, :half], w[:, half:]
            w = np.stack((low + high, low - high), axis=2).reshape(w.shape)
    return w


FORMS = (Int8Form(),)
