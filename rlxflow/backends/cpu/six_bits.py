"""The scales and minima of q4_k and q5_k: 8 of each, of 6 bits, in the first three words of a block."""

from __future__ import annotations

from rlxflow.backends.cpu.blocks import Unit
from rlxflow.backends.cpu.code import Value


def six_bit_scales(unit: Unit) -> tuple[Value, Value]:
    """The 4 scales and the 4 minima of this half of a block, one to a byte.

    Words 0 and 1 hold those of the first half in their low 6 bits, and above them the high bits of those of
    the second half, whose low nibbles are in word 2.
    """
    code, mixed = unit.code, unit.word(2)

    def four(word: Value, shift: int) -> Value:
        second = code.or_(unit.bits(mixed, shift, 15), unit.bits(word, 2, 48))
        return unit.of_half(unit.bits(word, 0, 63), second)

    return four(unit.word(0), 0), four(unit.word(1), 4)
