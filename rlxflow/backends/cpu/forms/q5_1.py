"""q5_1: 32 elements, d·code + m. Words: the fifth bits; nibbles as in q4_0."""

from __future__ import annotations

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.high_bits import arrange_fifth_bits, fifth_bits
from rlxflow.backends.cpu.tiles_32 import forms_32
from rlxflow.dtypes import q5_1


def _runs(unit: Unit) -> list[Run]:
    def codes(g: int) -> Value:
        nibbles = unit.bits(unit.word(1 + g % 4), 4 * (g // 4), 15)
        return unit.code.or_(nibbles, fifth_bits(unit, g))

    return [Run(0, 32, codes, unit.number(0), low=unit.code.fneg(unit.number(1)))]


FORMS = forms_32(Blocks(q5_1, unit=32, halves=2, runs=_runs, arrange=arrange_fifth_bits))
