"""q4_k: 256 elements, runs of 32: d·scale·code - dmin·min.

Words: 3 of scales and minima; 32 of nibbles, 8 words for 64 elements: low those of the first 32.
"""

from __future__ import annotations

from rlxflow.backends.cpu.blocks import Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_tiles import k_forms
from rlxflow.backends.cpu.six_bits import six_bit_scales
from rlxflow.dtypes import q4_k


def _half(unit: Unit) -> Half:
    scales, minima = six_bit_scales(unit)

    def codes(q: int, g: int) -> Value:
        return unit.bits(unit.word(3 + q // 2 * 8 + g, per_half=16), q % 2 * 4, 15)

    factors = [unit.byte(scales, q) for q in range(4)]
    return Half(32, codes, unit.number(0), factors, least=unit.number(1), minima=[minima])


FORMS = k_forms(q4_k, _half, numbers=2, paired=True)
