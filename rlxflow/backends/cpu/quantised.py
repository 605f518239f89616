"""Activations in less than f32: layouts of a row. `kernels/quantise.py` writes them, tiles read them."""

from __future__ import annotations

from typing import ClassVar

from rlxflow.backends.cpu.kernels.bfloat import has_bfloat_products
from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Bf16Pairs:
    """A row in bf16, as `half.py` keeps weights: the words of a block hold elements j and half + j.

    The last block may be shorter; a half of it that is missing is zero.
    """

    block: int

    mixed: ClassVar[str] = "auto"

    def runs_on(self, target: Target) -> bool:
        return has_bfloat_products(target)

    def row_words(self, depth: int) -> int:
        return -(-depth // 2)

    def cuts_at(self, width: int) -> bool:
        """Whether runs of `width` elements are written alone as they are in a row."""
        return width % self.block == 0


@dataclass(frozen=True)
class Quantised64:
    """A row is blocks of 64 elements, in groups of two; the last block may be shorter, its group have one.

    x ≈ M·p·(q - 128), where M in 1 … 2 belongs to the group and p, a power of two, to the block. The largest
    block of a group reaches from 1 to 255. Whole blocks are rotated first: x is H·x, where H is the symmetric
    Hadamard matrix of ±1, which spreads one large element over all of its block. Weights that are H·w / 64
    give the same products.

    A row begins with M·P of its last group, f32, where P·2^`most` is the largest p. Words of a block:

    - what multiplies an f32 by p / P when added to its bits (a zero becomes next to nothing), i32, from 0 on;
    - M of the group before (of none: 1) / M, f32: at the first block of a group, it makes sums of what came
      before it those of its own unit;
    - its q, u8, four to a word, up to whole vectors (of a short block).
    """

    mixed: ClassVar[str] = "int8"
    block: ClassVar[int] = 64
    group: ClassVar[int] = 2  # blocks
    most: ClassVar[int] = 16
    head: ClassVar[int] = 1  # words of a row before its blocks
    values: ClassVar[int] = 2
    words: ClassVar[int] = 18

    def runs_on(self, target: Target) -> bool:
        return True

    def row_words(self, depth: int) -> int:
        return self.head + -(-depth // self.block) * self.words

    def cuts_at(self, width: int) -> bool:
        """Whether runs of `width` elements are written alone as they are in a row: groups know the last."""
        return False


@dataclass(frozen=True)
class Quantised32:
    """A row is blocks of 32 elements, in groups of eight; the last group may have fewer.

    x ≈ M·p·(q - z), where M belongs to the group and p = ±2ᵉ to the block. z is a power of two up to 128 that
    leaves most codes to the side where x reaches further, p has the sign of that side: so the codes of a
    block that leans to one side are up to twice as fine. M is in 1 … 2, the mantissa of the largest scale
    that a block of the group needs, and e the least that gives a block what it needs, but not below `lowest`;
    above `highest`, M is larger instead. Words of a block:

    - 1 / M in the first block of a group, M in the others, f32;
    - 1.5·2²³·p, f32: an integer n, |n| < 2²², added to its bits makes a float that is larger by n·p;
    - log2 z, i32;
    - -p·Σ (q - z), f32, if `sums` (for weights with a minimum), or 0;
    - its q, u8, four to a word.

    Behind a last group of one block lies its M.
    """

    sums: bool

    mixed: ClassVar[str] = "int8"
    block: ClassVar[int] = 32
    group: ClassVar[int] = 8  # blocks
    lowest: ClassVar[int] = -120
    highest: ClassVar[int] = 100
    magic: ClassVar[int] = (23 << 23) + (1 << 22)  # added to the bits of p makes those of 1.5·2²³·p
    values: ClassVar[int] = 4
    words: ClassVar[int] = 12

    def runs_on(self, target: Target) -> bool:
        return True

    def row_words(self, depth: int) -> int:
        blocks = depth // self.block
        return blocks * self.words + (blocks % self.group == 1)

    def cuts_at(self, width: int) -> bool:
        """Whether runs of `width` elements are written alone as they are in a row."""
        return width % (self.block * self.group) == 0


@dataclass(frozen=True)
class QuantisedK:
    """A row is blocks of 256 elements, as K-quants have them, each with one scale; within a block, every 32
    elements have a power of two besides: x ≈ s·2ᵉ·q, e in 0 … `most`. Words of a block:

    - -32·Σ q of every 16 elements, i32 (for weights that are stored with an offset of 32);
    - e of every 32 elements, i32: the smallest that keeps q in -120 … 120;
    - 2ᵉ·Σ q of every 16, then of every 32, i16: of four the first and third make a word, then the second and
      fourth (for weights with a minimum per run);
    - s, f32: max|x| / (120·2^`most`);
    - Σ 8·q1 - 120·q2 - q1·q2 of every 32 elements, i32, over its pairs of elements j and 16 + j, j < 8 (for
      `PairedK`, which needs that q leaves room in a byte);
    - its q, int8, four to a word.
    """

    mixed: ClassVar[str] = "int8"
    block: ClassVar[int] = 256
    most: ClassVar[int] = 3  # more, and i16 would not hold the sums
    largest: ClassVar[int] = 120
    powers: ClassVar[int] = 16  # words of a block where the parts begin; the first sums at 0
    scale: ClassVar[int] = 36
    pairs: ClassVar[int] = 37
    values: ClassVar[int] = 45
    words: ClassVar[int] = 109

    def runs_on(self, target: Target) -> bool:
        return True

    def shorts(self, size: int) -> int:
        """The word of a block where Σ q of runs of so many elements begin."""
        return {16: 24, 32: 32}[size]

    def row_words(self, depth: int) -> int:
        return depth // self.block * self.words

    def cuts_at(self, width: int) -> bool:
        """Whether runs of `width` elements are written alone as they are in a row."""
        return width % self.block == 0


Layout = (
    Bf16Pairs | Quantised64 | Quantised32 | QuantisedK
)  # `mixed`: the word of `precision.mixed` that allows it; `runs_on`: where it is fast
