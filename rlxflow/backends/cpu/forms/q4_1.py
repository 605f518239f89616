"""q4_1: 32 elements, d·code + m. Words: nibbles of elements 0…15 low, of 16…31 high."""

from __future__ import annotations

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.tiles_32 import forms_32
from rlxflow.dtypes import q4_1


def _runs(unit: Unit) -> list[Run]:
    def codes(g: int) -> Value:
        return unit.bits(unit.word(g % 4), 4 * (g // 4), 15)

    return [Run(0, 32, codes, unit.number(0), low=unit.code.fneg(unit.number(1)))]


FORMS = forms_32(Blocks(q4_1, unit=32, halves=2, runs=_runs))
