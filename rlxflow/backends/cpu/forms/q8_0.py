"""q8_0: 32 elements, d·code, signed. Words: the codes."""

from __future__ import annotations

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.tiles_32 import forms_32
from rlxflow.dtypes import q8_0


def _runs(unit: Unit) -> list[Run]:
    code = unit.code

    def codes(g: int) -> Value:
        return code.xor(unit.word(g), code.fill_int(0x80808080))

    return [Run(0, 32, codes, unit.number(0), zero=128)]


FORMS = forms_32(Blocks(q8_0, unit=32, halves=1, runs=_runs), plain=True)
