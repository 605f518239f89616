"""f32 weights, as they are: a word is an element. And in pairs."""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.code import F32, Code, Module, Value, i64
from rlxflow.backends.cpu.form import ROW_ARGUMENTS, WordForm, column_of, words_of
from rlxflow.backends.cpu.paired import PairedForm
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class F32Form(WordForm):
    """See `Form`. A row of the result is summed over k in one order, whatever the height of its tile."""

    name: str = "f32"
    weights: tuple[str, ...] = ("f32",)
    x: Layout | None = None
    unpacked: None = None
    starts: None = None

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
        def body(tile: Tile) -> None:
            code, rows = tile.code, tile.rows()

            def step(k: Value, sums: tuple[Value, ...]) -> list[Value]:
                tile.fetch(k)
                return tile.add_products(sums, rows, k, tile.vectors(k))

            tile.write(code.loop(0, tile.depth, 1, step, tile.none))

        return micro_kernel(module, self.name, height, shared, body)


FORMS = (F32Form(), PairedForm())
