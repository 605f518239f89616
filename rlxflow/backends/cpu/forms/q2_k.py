"""q2_k: 256 elements, runs of 16: d·scale·code - dmin·min.

Words of each half block: 2 of scales (low nibbles) and minima (high nibbles), a byte per run; 8 of crumbs:
bits 2·t and 2·t + 1 of byte l in 0…31 belong to element 32·t + l. (In the file all scales stand first.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.dtypes import q2_k


def _runs(unit: Unit) -> list[Run]:
    d, dmin = unit.number(0), unit.number(1)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            return unit.bits(unit.word(2 + 4 * (q % 2) + g, per_half=10), q // 2 * 2, 3)

        both = unit.word(q // 4, per_half=10)
        scale, low = (unit.byte(unit.bits(both, s, 15), q % 4) for s in (0, 4))
        return Run(16 * q, 16, codes, unit.code.fmul(d, scale), low=unit.code.fmul(dmin, low))

    return [run(q) for q in range(8)]


def _arrange(_: Code, word: Word) -> Iterable[Value]:
    return map(word, (0, 1, *range(4, 12), 2, 3, *range(12, 20)))


FORMS = forms_of(Blocks(q2_k, unit=128, halves=2, runs=_runs, halves_last=True, arrange=_arrange))
