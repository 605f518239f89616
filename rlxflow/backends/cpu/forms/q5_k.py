"""q5_k: 256 elements, runs of 32: d·scale·code - dmin·min.

Words: 3 of scales and minima; of each half block 4 of fifth bits among the first 8 of its 16 words of
nibbles, which are as in q4_k. (In the file the fifth bits of both halves stand together, 8 words.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.high_bits import beside_low, high_word, low_word
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_tiles import k_forms
from rlxflow.backends.cpu.six_bits import six_bit_scales
from rlxflow.dtypes import q5_k

HALF = 20


def _half(unit: Unit) -> Half:
    scales, minima = six_bit_scales(unit)

    def codes(q: int, g: int) -> Value:
        nibbles = unit.bits(unit.word(3 + low_word(q // 2 * 8 + g), HALF), q % 2 * 4, 15)
        fifth = unit.bits(unit.word(3 + high_word(g), HALF), g % 2 * 4 + q - 4, 16)
        return unit.code.or_(nibbles, fifth)

    factors = [unit.byte(scales, q) for q in range(4)]
    return Half(32, codes, unit.number(0), factors, least=unit.number(1), minima=[minima])


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    yield from map(word, range(3))
    yield from beside_low(code, word, 3, (range(11, 27), range(27, 43)))


FORMS = k_forms(q5_k, _half, numbers=2, arrange=_arrange)
