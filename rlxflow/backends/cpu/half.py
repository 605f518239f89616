"""Weights in half precision, two to a word: half the bytes; multiplied and summed in f32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlxflow.backends.cpu.code import F32, Code, Module, Value, i64
from rlxflow.backends.cpu.form import TILE_ARGUMENTS, fetch, words_of
from rlxflow.backends.cpu.quantised import Quantised
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import DTYPES, Array, to_numpy


@dataclass(frozen=True)
class HalfForm:
    """A form (see `Form`) whose word holds elements k and k + 1, the first one in the low half.

    `widen` makes f32 of the low and of the high halves of a vector of words.
    """

    name: str
    widen: Callable[[Code, Value], tuple[Value, Value]]
    x: Quantised | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.name,)

    def words(self, depth: int) -> int:
        return -(-depth // 2)

    def encode(self, rows: Array) -> Array:
        return words_of(rows.astype(to_numpy(DTYPES[self.name]), copy=False))

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

            def step(word: Value, sums: tuple[Value, ...], elements: int) -> tuple[Value, ...]:
                offset = code.mul(word, i64(panel))
                fetch(code, ahead, pace, word, height, shared)
                line = code.at(packed, offset)
                weights = [self.widen(code, code.get_as(line, code.ints, c * lanes)) for c in (0, 1)]
                for k in range(elements):
                    new = []
                    for r in range(height):
                        factor = code.splat(code.get(rows[r], code.add(code.mul(word, i64(2)), i64(k)), F32))
                        new += [code.fma_(factor, weights[c][k], sums[2 * r + c]) for c in (0, 1)]
                    sums = tuple(new)
                return sums

            whole, odd = code.sdiv(depth, i64(2)), code.srem(depth, i64(2))
            sums = code.loop(0, whole, 1, lambda w, s: step(w, s, 2), [code.zero] * (2 * height))
            # an odd last element has zeros beside it, but nobody knows what x has
            sums = code.loop(whole, code.add(whole, odd), 1, lambda w, s: step(w, s, 1), sums)
            for r in range(height):
                line = code.at(out, code.mul(i64(r), out_stride))
                for c in (0, 1):
                    code.put_vector(sums[2 * r + c], line, c * lanes)

        return module.function(("tile", self.name, height, shared), TILE_ARGUMENTS, body)
