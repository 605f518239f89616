"""int8 weights times int8 activations, with scales per row (output channel, token) and block of 64 of both.

In a block, w ≈ t·p with t = max|w| / 127, and x ≈ low + s·q (see `Quantised`), so that
Σ w·x ≈ s·t·Σ p·q + low·t·Σ p; the sums over p are integers, those of the blocks f32.

Whole blocks of both are rotated by a Hadamard matrix first (as in QuaRot, Ashkboos et al. 2024), so that a
block with one large element, as hidden states have them in a few columns, keeps the others: that halves the
distance to f32.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from rlxflow.backends.cpu.code import Code, Module, Value, i64
from rlxflow.backends.cpu.form import WordForm, words_of
from rlxflow.backends.cpu.kernels.dot import dot4
from rlxflow.backends.cpu.kernels.quantise import ROUND, ROUND_BITS
from rlxflow.backends.cpu.quantised import Layout, Quantised
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

BLOCK = 64  # 128: 10 % faster, twice the distance to f32
HEAD = 2  # words before the q of a block, in x as in the weights
LAYOUT = Quantised(BLOCK, rotated=True)


@dataclass(frozen=True)
class Int8Form(WordForm):
    """The words of a block: t, t·Σ p, and its p, four to a word. The last block may be shorter."""

    name: str = "int8"
    weights: tuple[str, ...] = ("f32", "bf16", "f16")
    x: Layout | None = LAYOUT
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

            def block(k: Value, totals: tuple[Value, ...]) -> list[Value]:
                start = code.mul(code.sdiv(k, i64(BLOCK)), i64(BLOCK // 4 + HEAD))
                size = code.minimum(code.sub(tile.depth, k), BLOCK)
                first = code.add(start, i64(HEAD))
                end = code.add(first, code.sdiv(code.add(size, i64(3)), i64(4)))

                def step(word: Value, sums: tuple[Value, ...]) -> list[Value]:
                    tile.fetch(word)
                    return tile.add_products(sums, rows, word, tile.words(word), partial(dot4, code))

                second = code.add(start, i64(1))
                sums = code.loop(first, end, 1, step, [code.fill_int(ROUND_BITS)] * (2 * height))
                scales, offsets = tile.vectors(start), tile.vectors(second)
                zeros = [code.fmul(scale, code.fill(-ROUND)) for scale in scales]
                new = []
                for r, row in enumerate(rows):
                    scale, low = tile.splat(row, start), tile.splat(row, second)
                    for c in (0, 1):
                        total = code.fma_(low, offsets[c], totals[2 * r + c])
                        number = code.bitcast(sums[2 * r + c], code.vector)  # ROUND + the sum
                        new.append(code.fma_(scale, _scaled(code, number, scales[c], zeros[c]), total))
                return new

            tile.write(code.loop(0, tile.depth, BLOCK, block, tile.none))

        return micro_kernel(module, self.name, height, shared, body)


def _scaled(code: Code, number: Value, scale: Value, zero: Value) -> Value:
    """(number - ROUND)·scale, rounded once; zero is -ROUND·scale, exactly, since scales have 22 bits."""
    if code.owner.target.fma:
        return code.fma_(number, scale, zero)
    return code.fmul(code.fsub(number, code.fill(ROUND)), scale)


def _block(w: Array) -> tuple[Array, Array, Array]:
    """A block of every row. NaN and infinities are left to the scale, which they make the same."""
    if w.shape[1] == BLOCK:
        w = _rotated(w) * np.float32(1 / BLOCK)
    top = np.abs(w).max(1, keepdims=True)
    with np.errstate(all="ignore"):  # a block of zeros
        p = np.nan_to_num(np.rint(w * (np.float32(127) / top)), nan=0.0, posinf=0.0, neginf=0.0)
        scale = ((top / np.float32(127)).view(np.uint32) & ~np.uint32(3)).view(np.float32)  # see `_scaled`
        offset = scale * p.sum(1, keepdims=True)
    return words_of(scale), words_of(offset), words_of(p.astype(np.int8))


def _rotated(w: Array) -> Array:
    """H·w of every row, by sums in a fixed order: packed bits are the same on every machine."""
    half = w.shape[1] // 2
    with np.errstate(all="ignore"):
        for _ in range(w.shape[1].bit_length() - 1):
            low, high = w[:, :half], w[:, half:]
            w = np.stack((low + high, low - high), axis=2).reshape(w.shape)
    return w


FORMS = (Int8Form(),)
