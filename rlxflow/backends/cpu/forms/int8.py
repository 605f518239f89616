"""int8 weights times int8 activations, with scales per row (output channel, token) and block of 64 of both.

In a block, w ≈ t·p with t = max|w| / 127, and x ≈ low + s·q (see `Quantised`), so that
Σ w·x ≈ s·t·Σ p·q + low·t·Σ p; the sums over p are integers, those of the blocks f32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlxflow.backends.cpu.code import F32, Code, Module, Value, i64
from rlxflow.backends.cpu.form import TILE_ARGUMENTS, fetch, words_of
from rlxflow.backends.cpu.kernels.dot import dot4, splat_word
from rlxflow.backends.cpu.quantised import Quantised
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array

BLOCK = 64  # 128: 10 % faster, twice the distance to f32
HEAD = 2  # words before the q of a block, in x as in the weights
LAYOUT = Quantised(BLOCK, affine=True)


@dataclass(frozen=True)
class Int8Form:
    """The words of a block: t, t·Σ p, and its p, four to a word. The last block may be shorter."""

    name: str = "int8"
    weights: tuple[str, ...] = ("f32", "bf16", "f16")
    x: Quantised | None = LAYOUT
    row: None = None

    def words(self, depth: int) -> int:
        return -(-depth // 4) + HEAD * -(-depth // BLOCK)

    def encode(self, rows: Array) -> Array:
        w = rows.astype(np.float32, copy=False)
        parts = [_block(w[:, k : k + BLOCK]) for k in range(0, w.shape[1], BLOCK)]
        return np.hstack([word for part in parts for word in part])

    def tile_rows(self, target: Target) -> int:
        return target.tile_rows

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        lanes, panel = module.target.lanes, module.target.panel

        def body(
            code: Code,
            x: Value,
            packed: Value,
            ahead: Value,
            pace: Value,
            out: Value,
            depth: Value,
            x_stride: Value,
            out_stride: Value,
        ) -> None:
            rows = [code.at(x, code.mul(i64(r), x_stride)) for r in range(height)]

            def block(k: Value, totals: tuple[Value, ...]) -> list[Value]:
                start = code.mul(code.sdiv(k, i64(BLOCK)), i64(BLOCK // 4 + HEAD))
                size = code.minimum(code.sub(depth, k), BLOCK)
                first = code.add(start, i64(HEAD))
                end = code.add(first, code.sdiv(code.add(size, i64(3)), i64(4)))

                def step(word: Value, sums: tuple[Value, ...]) -> list[Value]:
                    offset = code.mul(word, i64(panel))
                    fetch(code, ahead, pace, word, height, shared)
                    line = code.at(packed, offset)
                    weights = [code.get_as(line, code.ints, c * lanes) for c in (0, 1)]
                    new = []
                    for r in range(height):
                        factor = splat_word(code, rows[r], word)
                        new += [dot4(code, sums[2 * r + c], factor, weights[c]) for c in (0, 1)]
                    return new

                sums = code.loop(first, end, 1, step, [code.nothing] * (2 * height))
                head = code.at(packed, code.mul(start, i64(panel)))
                scales = [code.get_vector(head, c * lanes) for c in (0, 1)]
                offsets = [code.get_vector(head, panel + c * lanes) for c in (0, 1)]
                new = []
                for r in range(height):
                    scale, low = (code.splat(code.get(rows[r], code.add(start, i64(i)), F32)) for i in (0, 1))
                    for c in (0, 1):
                        scaled = code.fmul(code.sitofp(sums[2 * r + c], code.vector), scales[c])
                        total = code.fma_(low, offsets[c], totals[2 * r + c])
                        new.append(code.fma_(scale, scaled, total))
                return new

            totals = code.loop(0, depth, BLOCK, block, [code.zero] * (2 * height))
            for r in range(height):
                line = code.at(out, code.mul(i64(r), out_stride))
                for c in (0, 1):
                    code.put_vector(totals[2 * r + c], line, c * lanes)

        return module.function(("tile", self.name, height, shared), TILE_ARGUMENTS, body)


def _block(w: Array) -> tuple[Array, Array, Array]:
    """A block of every row. NaN and infinities are left to the scale, which they make the same."""
    top = np.abs(w).max(1, keepdims=True)
    with np.errstate(all="ignore"):  # a block of zeros
        p = np.nan_to_num(np.rint(w * (np.float32(127) / top)), nan=0.0, posinf=0.0, neginf=0.0)
        scale = top / np.float32(127)
        offset = scale * p.sum(1, keepdims=True)
    return words_of(scale), words_of(offset), words_of(p.astype(np.int8))


FORMS = (Int8Form(),)
