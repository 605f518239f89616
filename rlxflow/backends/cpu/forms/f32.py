"""f32 weights, as they are: a word is an element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlxflow.backends.cpu.code import F32, Code, Module, Value, i64
from rlxflow.backends.cpu.form import ROW_ARGUMENTS, TILE_ARGUMENTS, column_of, fetch, words_of
from rlxflow.backends.cpu.quantised import Quantised
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array


@dataclass(frozen=True)
class F32Form:
    """See `Form`. A row of the result is summed over k in one order, whatever the height of its tile."""

    name: str = "f32"
    weights: tuple[str, ...] = ("f32",)
    x: Quantised | None = None

    def words(self, depth: int) -> int:
        return depth

    def encode(self, rows: Array) -> Array:
        return words_of(rows.astype(np.float32, copy=False))

    def row(self, module: Module, depth: int) -> Value:
        def body(code: Code, packed: Value, number: Value, out: Value) -> None:
            column, panel = column_of(code, packed, number, depth)

            def element(k: Value, _: tuple[Value, ...]) -> None:
                code.put(code.get(column, code.mul(k, i64(panel)), F32), out, k)

            code.loop(0, depth, 1, element)

        return module.function(("row", self.name, depth), ROW_ARGUMENTS, body)

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

            def step(k: Value, sums: tuple[Value, ...]) -> list[Value]:
                offset = code.mul(k, i64(panel))
                line = code.at(packed, offset)
                fetch(code, ahead, pace, k, height, shared)
                weights = [code.get_vector(line), code.get_vector(line, lanes)]
                new = []
                for r in range(height):
                    factor = code.splat(code.get(rows[r], k, F32))
                    new += [code.fma_(factor, weights[c], sums[2 * r + c]) for c in (0, 1)]
                return new

            sums = code.loop(0, depth, 1, step, [code.zero] * (2 * height))
            for r in range(height):
                line = code.at(out, code.mul(i64(r), out_stride))
                code.put_vector(sums[2 * r], line)
                code.put_vector(sums[2 * r + 1], line, lanes)

        return module.function(("tile", self.name, height, shared), TILE_ARGUMENTS, body)


FORMS = (F32Form(),)
