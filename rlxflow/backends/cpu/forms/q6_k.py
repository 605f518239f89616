"""q6_k: 256 elements, runs of 16: d·scale·(code - 32).

Words, per half block: 16 of nibbles, low those of elements 0…63, high of 64…127; 8 of crumbs, the high bits, as
in q2_k; 2 of signed scales. The words of a kind stand together.
"""

from __future__ import annotations

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import q6_k


def _runs(unit: Unit) -> list[Run]:
    d = unit.number(0)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            at, quarter = 4 * (q % 2) + g, q // 2
            nibbles = unit.bits(unit.word(8 * (quarter % 2) + at, per_half=16), quarter // 2 * 4, 15)
            return unit.code.or_(nibbles, unit.bits(unit.word(32 + at, per_half=8), quarter * 2 - 4, 48))

        scale = unit.signed_byte(unit.word(48 + q // 4, per_half=2), q % 4)
        return Run(16 * q, 16, codes, unit.code.fmul(d, scale), zero=32)

    return [run(q) for q in range(8)]


FORMS = forms_of(Blocks(q6_k, unit=128, halves=1, runs=_runs, halves_last=True))
