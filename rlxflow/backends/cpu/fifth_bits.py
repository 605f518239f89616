"""The fifth bits of q5_0 and q5_1, which the file keeps in one word per block: bit i is that of element i."""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.blocks import Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import Array


def arrange_fifth_bits(words: Array) -> None:
    """Move the bit of element 4·g + i, in word 0 of every block, to bit g of byte i."""
    bits = words[:, 0]
    new = np.zeros_like(bits)
    for g in range(8):
        for i in range(4):
            new |= ((bits >> np.uint32(4 * g + i)) & np.uint32(1)) << np.uint32(8 * i + g)
    words[:, 0] = new


def fifth_bits(unit: Unit, group: int) -> Value:
    """The bits of elements 4·group …, arranged as above, each at its place in a code of five bits."""
    return unit.bits(unit.word(0), group - 4, 16)
