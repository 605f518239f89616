"""q3_k: 256 elements, runs of 16: d·(scale - 32)·(code - 4).

Words: 8 of third bits, bit s of byte l for element 32·s + l; per half block 8 of crumbs as in q2_k; 3 of
scales of 6 bits: those of both halves in the nibbles of two words, their high bits in the third.
"""

from __future__ import annotations

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import q3_k


def _runs(unit: Unit) -> list[Run]:
    code, d = unit.code, unit.number(0)
    high = unit.by_half(unit.word(26), 4)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            at = 4 * (q % 2) + g
            crumbs = unit.bits(unit.word(8 + at, per_half=8), q // 2 * 2, 3)
            return code.or_(crumbs, unit.bits(unit.by_half(unit.word(at), 4), q // 2 - 2, 4))

        low = unit.bits(unit.by_half(unit.word(24 + q // 4), 4), 0, 15)
        scales = code.or_(low, unit.bits(high, q // 4 * 2 - 4, 48))
        scale = code.fsub(unit.byte(scales, q % 4), code.fill(32.0))
        return Run(16 * q, 16, codes, code.fmul(d, scale), zero=4)

    return [run(q) for q in range(8)]


FORMS = forms_of(Blocks(q3_k, unit=128, halves=1, runs=_runs, halves_last=True))
