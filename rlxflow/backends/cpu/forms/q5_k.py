"""q5_k: 256 elements, runs of 32: d·scale·code - dmin·min.

Words: 3 of scales and minima; of each half block 4 of fifth bits among the first 8 of its 16 words of
nibbles, which are as in q4_k. (In the file the fifth bits of both halves stand together, 8 words.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.high_bits import beside_low, high_word, low_word
from rlxflow.backends.cpu.six_bits import six_bit_run, six_bit_scales
from rlxflow.dtypes import q5_k

HALF = 20


def _runs(unit: Unit) -> list[Run]:
    scales = six_bit_scales(unit)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            nibbles = unit.bits(unit.word(3 + low_word(q // 2 * 8 + g), HALF), q % 2 * 4, 15)
            fifth = unit.bits(unit.word(3 + high_word(g), HALF), g % 2 * 4 + q - 4, 16)
            return unit.code.or_(nibbles, fifth)

        return six_bit_run(unit, q, codes, scales)

    return [run(q) for q in range(4)]


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    yield from map(word, range(3))
    yield from beside_low(code, word, 3, (range(11, 27), range(27, 43)))


FORMS = forms_of(Blocks(q5_k, unit=128, halves=2, runs=_runs, arrange=_arrange))
