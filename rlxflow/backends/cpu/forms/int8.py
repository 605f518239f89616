"""int8 weights, one scale per row (per output channel), times activations quantised per token.

w ≈ t·q with t = max|w| / 127; x ≈ s·p. The product is s·t·Σ p·q, summed in i32. Stored are q + 128, for the
processor multiplies unsigned by signed bytes: Σ p·(q + 128) = Σ p·q + 128·Σ p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import words_of
from rlxflow.backends.cpu.kernels.dot import dot4, splat_word
from rlxflow.backends.cpu.quantised import Quantised
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array

WHOLE_ROWS = Quantised()


@dataclass(frozen=True)
class Int8Form:
    """A row: its q + 128, four to a word, and a last word with its scale."""

    name: str = "int8"
    weights: tuple[str, ...] = ("f32", "bf16", "f16")
    x: Quantised | None = WHOLE_ROWS

    def words(self, depth: int) -> int:
        return -(-depth // 4) + 1

    def encode(self, rows: Array) -> Array:
        w = rows.astype(np.float32, copy=False)
        top = np.abs(w).max(1, keepdims=True, initial=0.0)
        scale = top / np.float32(127)
        with np.errstate(all="ignore"):  # a row of zeros; NaN and infinities reach the result by the scale
            q = np.rint(w * (np.float32(127) / top))
        q = np.nan_to_num(q, nan=0.0, posinf=0.0, neginf=0.0)
        return np.hstack([words_of((q + 128).astype(np.uint8)), words_of(scale)])

    def tile_rows(self, target: Target) -> int:
        return target.tile_rows

    def tile(self, module: Module, height: int) -> Value:
        lanes, panel = module.target.lanes, module.target.panel

        def body(
            code: Code,
            x: Value,
            packed: Value,
            ahead: Value,
            out: Value,
            depth: Value,
            x_stride: Value,
            out_stride: Value,
        ) -> None:
            rows = [code.at(x, code.mul(i64(r), x_stride)) for r in range(height)]
            words = code.sdiv(code.add(depth, i64(3)), i64(4))
            starts = []
            for row in rows:
                offset = code.mul(code.get(row, 1, I32), I32(-128))
                starts += [code.splat(offset)] * 2

            def step(k: Value, sums: tuple[Value, ...]) -> list[Value]:
                offset = code.mul(k, i64(panel))
                line = code.at(packed, offset)
                for column in range(0, panel, 16):
                    code.prefetch(ahead, code.add(offset, i64(column)))
                weights = [code.get_as(line, code.ints), code.get_as(line, code.ints, lanes)]
                new = []
                for r in range(height):
                    factor = splat_word(code, code.at(rows[r], 2), k)
                    new += [dot4(code, sums[2 * r + c], weights[c], factor) for c in (0, 1)]
                return new

            sums = code.loop(0, words, 1, step, starts)
            last = code.at(packed, code.mul(words, i64(panel)))
            scales = [code.get_vector(last, c * lanes) for c in (0, 1)]
            for r in range(height):
                line = code.at(out, code.mul(i64(r), out_stride))
                scale = code.splat(code.get(rows[r]))
                for c in (0, 1):
                    value = code.sitofp(sums[2 * r + c], code.vector)
                    code.put_vector(code.fmul(value, code.fmul(scale, scales[c])), line, c * lanes)

        return module.function(("tile", self.name, height), [PTR, PTR, PTR, PTR, I64, I64, I64], body)


FORM = Int8Form()
