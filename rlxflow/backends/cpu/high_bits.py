"""The high bits of codes, where a format keeps them apart from the others."""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Unit, Word
from rlxflow.backends.cpu.code import Code, Value


def arrange_fifth_bits(code: Code, word: Word) -> Iterable[Value]:
    """q5_0 and q5_1: word 0 of a block has a bit per element; that of 4·g + i goes to bit g of byte i."""
    bits, new = word(0), code.nothing
    for g in range(8):
        for i in range(4):
            bit = code.and_(code.lshr(bits, code.fill_int(4 * g + i)), code.fill_int(1))
            new = code.or_(new, code.shl(bit, code.fill_int(8 * i + g)))
    yield new
    yield from map(word, range(1, 5))


def fifth_bits(unit: Unit, group: int) -> Value:
    """The bits of elements 4·group …, arranged as above, each at its place in a code of five bits."""
    return unit.bits(unit.word(0), group - 4, 16)


def beside_low(code: Code, word: Word, high: int, low: tuple[range, range]) -> Iterable[Value]:
    """The bits of q3_k and q5_k, by half and each before the words they are read with: 4 + low words each.

    Of the 8 words from `high` on, bit s of byte l is that of element 32·s + l. A new word has, for one half,
    the bits of word 2·j in its low nibbles and those of word 2·j + 1 in its high ones; behind it are low 2·j
    and 2·j + 1; further low words follow at the end.
    """
    for half in (0, 1):
        for j in range(0, 8, 2):
            even = code.byte_bits(word(high + j), 4 * half, 15)
            yield code.or_(even, code.byte_bits(word(high + j + 1), 4 * half - 4, 240))
            yield from map(word, low[half][j : j + 2])
        yield from map(word, low[half][8:])


def high_word(group: int) -> int:
    """Where `beside_low` puts the high bits of group 0 … 7; they are in nibble `group % 2`."""
    return group // 2 * 3


def low_word(group: int) -> int:
    """Where `beside_low` puts low word `group`."""
    return group + group // 2 + 1 if group < 8 else group + 4
