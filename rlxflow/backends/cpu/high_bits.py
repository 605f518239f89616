"""The high bits of codes, where a format keeps them apart from the others."""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.blocks import Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import Array


def arrange_fifth_bits(words: Array) -> Array:
    """q5_0 and q5_1: word 0 of a block has a bit per element; that of 4·g + i goes to bit g of byte i."""
    bits, new = words[:, 0], np.zeros(len(words), np.uint32)
    for g in range(8):
        for i in range(4):
            new |= ((bits >> np.uint32(4 * g + i)) & np.uint32(1)) << np.uint32(8 * i + g)
    words[:, 0] = new
    return words


def fifth_bits(unit: Unit, group: int) -> Value:
    """The bits of elements 4·group …, arranged as above, each at its place in a code of five bits."""
    return unit.bits(unit.word(0), group - 4, 16)


def beside_low(high: Array, low: Array) -> Array:
    """The bits of q3_k and q5_k, by half and each before the words they are read with: [n, 2, 4 + low words].

    high: [n, 8], bit s of byte l is that of element 32·s + l. low: [n, 2, 8 or more]. A new word has, for one
    half, the bits of word 2·j in its low nibbles and those of word 2·j + 1 in its high ones; behind it are
    low 2·j and 2·j + 1; further low words follow at the end.
    """
    nibbles = np.uint32(0x0F0F0F0F)
    halves = np.stack([high & nibbles, (high >> np.uint32(4)) & nibbles], axis=1)
    joined = halves[:, :, ::2] | (halves[:, :, 1::2] << np.uint32(4))
    pairs = low[:, :, :8].reshape(len(low), 2, 4, 2)
    first = np.concatenate([joined[..., None], pairs], axis=3).reshape(len(low), 2, 12)
    return np.concatenate([first, low[:, :, 8:]], axis=2)


def high_word(group: int) -> int:
    """Where `beside_low` puts the high bits of group 0 … 7; they are in nibble `group % 2`."""
    return group // 2 * 3


def low_word(group: int) -> int:
    """Where `beside_low` puts low word `group`."""
    return group + group // 2 + 1 if group < 8 else group + 4
