"""The query heads that share a key head: where their rows are, and which keys their tokens see."""

from __future__ import annotations

from collections.abc import Callable

from rlxflow.backends.cpu.code import F32, HALF, Code, Index, Value, i64
from rlxflow.backends.cpu.kernels.running_softmax import KEYS, Shape
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class HeadGroup:
    """`heads` neighbouring query heads of one key head. Strides are floats between tokens; `half` caches f16.

    With a `layout`, results are written so, and the stride of out is in words of it.

    Items of work take pointers to the first of these heads: of q and out those of their first token, of a
    cache that of position 0, of the sinks their own.
    """

    shape: Shape
    heads: int
    half: bool
    sinks: bool
    q_stride: int
    out_stride: int
    layout: Layout | None = None

    def query(self, code: Code, q: Value, token: Index, head: Index) -> Value:
        """Where q has a head of a token."""
        return _at(code, q, self.q_stride, token, self.shape.head_dim, head)

    @property
    def result_words(self) -> int:
        """Of these heads of one token."""
        return result_words(self.layout, self.heads * self.shape.head_dim)

    def result(self, code: Code, out: Value, token: Index, kv_head: Index) -> Value:
        """Where out has the heads of a token that read this key head."""
        return _at(code, out, self.out_stride, token, self.result_words, kv_head)

    def cached(self, code: Code, cache: Value, position: Index) -> Value:
        """Where a cache has a position."""
        return code.at(cache, code.mul(position, i64(self.shape.head_dim)), HALF if self.half else F32)

    def every_block(
        self, code: Code, position: Value, tokens: Value, run: Callable[[Value, Value], None]
    ) -> None:
        """`run(first key, number of keys)` for every block of keys that some tokens from `position` on see.

        Blocks begin at multiples of KEYS, so that no sum depends on which tokens are in an item.
        """
        start, stop, window = i64(0), code.add(position, tokens), self.shape.window
        if window:
            seen = code.add(position, i64(1))
            start = code.and_(code.sub(seen, code.minimum(seen, i64(window))), i64(-KEYS))
        code.loop(start, stop, KEYS, lambda first, _: run(first, code.minimum(code.sub(stop, first), KEYS)))


def result_words(layout: Layout | None, width: int) -> int:
    """Of so many elements of a token."""
    return width if layout is None else layout.row_words(width)


def _at(code: Code, x: Value, stride: int, token: Index, width: int, head: Index) -> Value:
    return code.at(x, code.add(code.mul(token, i64(stride)), code.mul(head, i64(width))))
