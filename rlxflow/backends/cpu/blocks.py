"""GGUF block formats as forms: what a row of words holds, and what a format must tell of its blocks.

Weights stay as packed as the file has them. A row is groups of one or two blocks, one after the other: a
word with their two float16 numbers (a scale each, or scale and minimum), and the other 4-byte words of the
blocks. The bits of four neighbouring elements lie in four neighbouring bytes in every GGUF format, so vectors
of words, a lane per row of the weights, are unpacked by shifts and masks alone. A kernel reads one stream of
memory, in order: that the processor fetches ahead by itself, at the full rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rlxflow.backends.cpu.code import I32, Code, Value, i64
from rlxflow.backends.cpu.forms.f16 import high, low
from rlxflow.dtypes import DType
from rlxflow.quick_dataclass import dataclass

Word = Callable[[int], Value]  # a word of a block, of all rows of a vector


@dataclass(frozen=True)
class Run:
    """16 or 32 neighbouring elements of one scale: value = scale · (code - zero) - low.

    - `start`, `size`: its place among the elements of a unit;
    - `codes`: emits the codes of elements 4·g … 4·g + 3 of the run, one to a byte;
    - `scale`, `low`: f32 vectors; no `low`: 0.
    """

    start: int
    size: int
    codes: Callable[[int], Value]
    scale: Value
    zero: int = 0
    low: Value | None = None


@dataclass(frozen=True)
class Blocks:
    """How a GGUF format lies in memory.

    - `unit`: elements that the kernels unpack in one go: a block, or half of one;
    - `halves`: float16 numbers of a block, at its start, or at its end (`halves_last`);
    - `runs`: the runs of a unit, in the order of their elements;
    - `arrange`: emits the words of a block, from those of the file, in another order or with other bits,
      where that is faster to read.
    """

    dtype: DType
    unit: int
    halves: int
    runs: Callable[[Unit], list[Run]]
    halves_last: bool = False
    arrange: Callable[[Code, Word], Iterable[Value]] | None = None

    @property
    def block_words(self) -> int:
        """4-byte words of a block, beside its float16 numbers."""
        return (self.dtype.block_bytes - 2 * self.halves) // 4

    @property
    def group(self) -> int:
        """Blocks that share a word of float16 numbers."""
        return 2 // self.halves

    def words(self, depth: int) -> int:
        """Words of a row: those of its blocks, and one for the numbers of a group."""
        blocks = depth // self.dtype.block_size
        return blocks * self.block_words + -(-blocks // self.group)


class Unit:
    """A unit of weights in one vector of a panel: its words and numbers, loaded where they are asked for."""

    def __init__(self, code: Code, blocks: Blocks, panel: Value, number: Value) -> None:
        """`panel` is this vector in the first word of the panel, `number` counts the units of a row."""
        self.code = code
        self._blocks = blocks
        per_block = blocks.dtype.block_size // blocks.unit
        block = number if per_block == 1 else code.lshr(number, i64(1))
        self._half = i64(0) if per_block == 1 else code.and_(number, i64(1))
        group, self._in_group = (
            (block, i64(0)) if blocks.group == 1 else (code.lshr(block, i64(1)), code.and_(block, i64(1)))
        )
        width = code.owner.target.panel
        self._group = code.at(panel, code.mul(group, i64((1 + blocks.group * blocks.block_words) * width)))
        self._words = code.at(self._group, code.mul(self._in_group, i64(blocks.block_words * width)))

    def word(self, index: int, per_half: int = 0) -> Value:
        """Word `index` of the block; of its second half, that of so many words later."""
        code, width = self.code, self.code.owner.target.panel
        start = code.at(self._words, (1 + index) * width)
        if per_half:
            start = code.at(start, code.mul(self._half, i64(per_half * width)))
        return code.get_as(start, code.ints)

    def by_half(self, word: Value, bits: int) -> Value:
        """The word, shifted down by so many bits in the second half of a block."""
        shift = self.code.trunc(self.code.mul(self._half, i64(bits)), I32)
        return self.code.lshr(word, self.code.splat(shift))

    def of_half(self, first: Value, second: Value) -> Value:
        """One of two vectors, by the half of the block."""
        return self.code.select(self.code.icmp_signed("==", self._half, i64(0)), first, second)

    def number(self, index: int) -> Value:
        """Float16 number `index` of the block, as f32."""
        code = self.code
        word = code.get_as(self._group, code.ints)
        if self._blocks.group == 1:
            return (low, high)[index](code, word)
        shift = code.trunc(code.shl(self._in_group, i64(4)), I32)
        return low(code, code.lshr(word, code.splat(shift)))

    def bits(self, word: Value, shift: int, mask: int) -> Value:
        """See `Code.byte_bits`."""
        return self.code.byte_bits(word, shift, mask)

    def byte(self, word: Value, index: int) -> Value:
        """A byte of every word as i32."""
        code = self.code
        return code.and_(code.lshr(word, code.fill_int(8 * index)), code.fill_int(255))

    def signed_byte(self, word: Value, index: int) -> Value:
        """A byte of every word as i32."""
        code = self.code
        up = code.shl(word, code.fill_int(24 - 8 * index))
        return code.ashr(up, code.fill_int(24))
