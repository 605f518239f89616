"""Micro-kernels: what those of all forms share. See `Tile`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from rlxflow.backends.cpu.code import F32, I32, I64, PTR, Code, Index, Module, Value, i64
from rlxflow.quick_dataclass import dataclass

LINE = 16  # words of a cache line
TILE_ARGUMENTS = (PTR, PTR, PTR, PTR, I64, PTR, I64, I64, I64)


@dataclass(frozen=True)
class Tile:
    """A micro-kernel of `height` rows × a panel while it is written.

    Its arguments: rows of x; what `Form.starts` made of them; a panel; `ahead` and `pace`, see `fetch`; where
    sums are written; K; strides in words. `sums` below are the vectors of row 0, then those of row 1, and so
    on: two each.
    """

    code: Code
    height: int
    shared: bool  # many tiles meet one panel
    x: Value
    starts: Value
    packed: Value
    ahead: Value
    pace: Value
    out: Value
    depth: Value
    x_stride: Value
    out_stride: Value

    @property
    def none(self) -> list[Value]:
        """Sums of nothing."""
        return [self.code.zero] * (2 * self.height)

    def rows(self, first: Index = 0) -> list[Value]:
        """The rows of x, from word `first` on."""
        code = self.code
        start = code.at(self.x, first)
        return [code.at(start, code.mul(i64(r), self.x_stride)) for r in range(self.height)]

    def line(self, word: Value) -> Value:
        """Word `word` of the panel."""
        return self.code.at(self.packed, self.code.mul(word, i64(self.code.owner.target.panel)))

    def words(self, word: Value) -> list[Value]:
        """Both vectors of a word, as integers."""
        line = self.line(word)
        return [self.code.get_as(line, self.code.ints, c * self.code.lanes) for c in (0, 1)]

    def vectors(self, word: Value) -> list[Value]:
        """Both vectors of a word, as f32."""
        line = self.line(word)
        return [self.code.get_vector(line, c * self.code.lanes) for c in (0, 1)]

    def splat(self, row: Value, word: Value, kind: Value = F32) -> Value:
        """A word of a row of x in every lane."""
        return self.code.splat(self.code.get(row, word, kind))

    def add_products(
        self,
        sums: Sequence[Value],
        rows: Sequence[Value],
        word: Value,
        weights: Sequence[Value],
        dot: Callable[[Value, Value, Value], Value] | None = None,
    ) -> list[Value]:
        """Sums + a word of every row · the two vectors of weights; `dot` (sum, x, weights) is of integers.

        Row by row, so that few words of x are in registers at a time.
        """
        code, new = self.code, []
        for r, row in enumerate(rows):
            x = self.splat(row, word, F32 if dot is None else I32)
            for total, w in zip(sums[2 * r : 2 * r + 2], weights, strict=True):
                new.append(code.fma_(x, w, total) if dot is None else dot(total, x, w))
        return new

    def fetch(self, word: Value) -> None:
        """Prefetch `pace` words from `ahead` + `pace`·`word` on: what is needed soon, or nothing that exists.

        Tiles that meet one panel have a share each of the next one. Many fetch it into the nearest cache; two
        into the second level, which can wait for more reads at once. A single tile fetches its own panel, a
        few rows ahead. One or two rows are faster than memory: half of their lines are left to the
        processor's own ways.
        """
        code = self.code
        place = code.mul(word, self.pace)
        code.prefetch(self.ahead, place, near=self.shared)
        if not self.shared and self.height > 2 and code.owner.target.panel > LINE:
            code.prefetch(self.ahead, code.add(place, i64(LINE)), near=False)

    def write(self, sums: Sequence[Value]) -> None:
        code = self.code
        for i, total in enumerate(sums):
            line = code.at(self.out, code.mul(i64(i // 2), self.out_stride))
            code.put_vector(total, line, i % 2 * code.lanes)


def micro_kernel(
    module: Module, key: Hashable, height: int, shared: bool, body: Callable[[Tile], None]
) -> Value:
    """The function of such a tile."""

    def emit(code: Code, *arguments: Value) -> None:
        body(Tile(code, height, shared, *arguments))

    return module.function(("tile", key, height, shared), TILE_ARGUMENTS, emit)
