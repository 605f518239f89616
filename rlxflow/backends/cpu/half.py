"""Weights in half precision, two to a word: half the bytes; multiplied and summed in f32.

The words of a block of 64 elements hold elements j and 32 + j. So a tile runs over the low halves of a block
and then over the high halves, which lie in the cache by then: two short loops, where one that unpacks both
halves of a word would hold more values than there are registers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import ROW_ARGUMENTS, WordForm, column_of
from rlxflow.backends.cpu.forms.f32 import F32Form
from rlxflow.backends.cpu.kernels.bfloat import add_products
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.tile import Tile, micro_kernel
from rlxflow.dtypes import DTYPES, Array, to_numpy
from rlxflow.quick_dataclass import dataclass

BLOCK = 64
Values = tuple[Value, ...]
Widen = Callable[[Code, Value], Value]  # a vector of words to f32


@dataclass(frozen=True)
class HalfForm(WordForm):
    """A form (see `Form`). `low` and `high` make f32 of the low and the high halves of words."""

    name: str
    low: Widen
    high: Widen
    x: Layout | None = None
    starts: None = None

    @property
    def unpacked(self) -> Widened | None:
        return Widened(self)

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.name.partition(".")[0],)

    def words(self, depth: int) -> int:
        return -(-depth // 2)

    def encode(self, rows: Array) -> Array:
        halves = rows.astype(to_numpy(DTYPES[self.weights[0]]), copy=False).view(np.uint16)
        rest = halves.shape[1] % BLOCK
        whole = halves[:, : halves.shape[1] - rest].reshape(len(rows), -1, BLOCK)
        words = _paired(whole).reshape(len(rows), -1)
        return np.hstack([words, _paired(halves[:, -rest:])]) if rest else words

    def row(self, module: Module, depth: int) -> Value:
        def body(code: Code, packed: Value, number: Value, out: Value) -> None:
            column, panel = column_of(code, packed, number, self.words(depth))

            def half(widen: Widen, first: Value, line: Value, count: Value) -> None:
                def element(j: Value, _: Values) -> None:
                    word = code.get(column, code.mul(code.add(line, j), i64(panel)), I32)
                    value = code.extract_element(widen(code, code.splat(word)), I32(0))
                    code.put(value, out, code.add(first, j))

                code.loop(0, count, 1, element)

            def block(first: Value, _: Values) -> None:
                size = code.minimum(code.sub(i64(depth), first), BLOCK)
                words, line = code.sdiv(code.add(size, i64(1)), i64(2)), code.sdiv(first, i64(2))
                half(self.low, first, line, words)
                half(self.high, code.add(first, words), line, code.sub(size, words))

            code.loop(0, depth, BLOCK, block)

        return module.function(("row", self.name, depth), ROW_ARGUMENTS, body)

    def tile_rows(self, target: Target) -> int:
        return target.tile_rows

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        def body(tile: Tile) -> None:
            code = tile.code

            def half(widen: Widen, first: Value, line: Value, count: Value, sums: Values) -> Values:
                """The low or the high halves of a block, which belong to x from `first` on."""
                rows = tile.rows(first)

                def step(j: Value, sums: Values) -> list[Value]:
                    word = code.add(line, j)
                    if widen is self.low:
                        tile.fetch(word)
                    weights = [widen(code, w) for w in tile.words(word)]
                    return tile.add_products(sums, rows, j, weights)

                return code.loop(0, count, 1, step, sums)

            def block(first: Value, sums: Values) -> Values:
                size = code.minimum(code.sub(tile.depth, first), BLOCK)
                words = code.sdiv(code.add(size, i64(1)), i64(2))
                line = code.sdiv(first, i64(2))
                sums = half(self.low, first, line, words, sums)
                return half(self.high, code.add(first, words), line, code.sub(size, words), sums)

            tile.write(code.loop(0, tile.depth, BLOCK, block, tile.none))

        return micro_kernel(module, self.name, height, shared, body)


@dataclass(frozen=True)
class Widened:
    """See `UnpackedPanels`: the weights of a panel as f32."""

    form: HalfForm
    name: str = F32Form().name

    def words(self, depth: int) -> int:
        return depth

    def tile_rows(self, target: Target) -> int:
        return F32Form().tile_rows(target)

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        return F32Form().tile(module, height, shared)

    def least_rows(self, target: Target) -> int:
        """Three tiles: two widen as fast in registers."""
        return 2 * self.tile_rows(target) + 1

    def unpack(self, module: Module) -> Value:
        panel, lanes = module.target.panel, module.target.lanes

        def body(code: Code, packed: Value, depth: Value, room: Value) -> None:
            def half(widen: Widen, first: Value, line: Value, count: Value) -> None:
                def step(j: Value, _: Values) -> None:
                    words = code.at(packed, code.mul(code.add(line, j), i64(panel)))
                    place = code.at(room, code.mul(code.add(first, j), i64(panel)))
                    for c in (0, lanes):
                        code.put_vector(widen(code, code.get_as(words, code.ints, c)), place, c)

                code.loop(0, count, 1, step)

            def block(first: Value, _: Values) -> None:
                size = code.minimum(code.sub(depth, first), BLOCK)
                words, line = code.sdiv(code.add(size, i64(1)), i64(2)), code.sdiv(first, i64(2))
                half(self.form.low, first, line, words)
                half(self.form.high, code.add(first, words), line, code.sub(size, words))

            code.loop(0, depth, BLOCK, block)

        return module.function(("widen", self.form.name), [PTR, I64, PTR], body)


class PairForm(HalfForm):
    """bf16 weights times x rounded to bf16, two products at once; summed in f32.

    The processor takes subnormals for zeros there.
    """

    unpacked: None = None

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        def body(tile: Tile) -> None:
            code, rows = tile.code, tile.rows()

            def step(word: Value, sums: Values) -> list[Value]:
                tile.fetch(word)
                return tile.add_products(sums, rows, word, tile.words(word), partial(add_products, code))

            words = code.sdiv(code.add(tile.depth, i64(1)), i64(2))
            tile.write(code.loop(0, words, 1, step, tile.none))

        return micro_kernel(module, self.name, height, shared, body)


def _paired(halves: Array) -> Array:
    """Blocks [..., size] of halves as words [..., ceil(size / 2)]."""
    size = halves.shape[-1]
    words = -(-size // 2)
    pairs = np.zeros((*halves.shape[:-1], words, 2), np.uint16)
    pairs[..., 0] = halves[..., :words]
    pairs[..., : size - words, 1] = halves[..., words:]
    return pairs.view(np.uint32)[..., 0]
