"""q8_0: 32 elements, d·code, signed. Words: the codes, kept with an offset of 128."""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Blocks, Run, Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.tiles_32 import forms_32
from rlxflow.dtypes import q8_0


def _runs(unit: Unit) -> list[Run]:
    return [Run(0, 32, unit.word, unit.number(0), zero=128)]


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    return (code.xor(word(i), code.fill_int(0x80808080)) for i in range(8))


FORMS = forms_32(Blocks(q8_0, unit=32, halves=1, runs=_runs, arrange=_arrange))
