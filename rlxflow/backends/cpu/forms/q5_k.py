"""q5_k: 256 elements, runs of 32: d·scale·code - dmin·min.

Words: 3 of scales and minima; 8 of fifth bits, bit s of byte l for element 32·s + l; 32 of nibbles as in q4_k.
"""

from __future__ import annotations

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.six_bits import six_bit_run, six_bit_scales
from rlxflow.dtypes import q5_k


def _runs(unit: Unit) -> list[Run]:
    scales = six_bit_scales(unit)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            nibbles = unit.bits(unit.word(11 + q // 2 * 8 + g, per_half=16), q % 2 * 4, 15)
            return unit.code.or_(nibbles, unit.bits(unit.by_half(unit.word(3 + g), 4), q - 4, 16))

        return six_bit_run(unit, q, codes, scales)

    return [run(q) for q in range(4)]


FORMS = forms_of(Blocks(q5_k, unit=128, halves=2, runs=_runs))
