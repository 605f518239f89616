"""q4_k: 256 elements, runs of 32: d·scale·code - dmin·min.

Words: 3 of scales and minima; 32 of nibbles, 8 words for 64 elements: low those of the first 32.
"""

from __future__ import annotations

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.backends.cpu.six_bits import six_bit_run, six_bit_scales
from rlxflow.dtypes import q4_k


def _runs(unit: Unit) -> list[Run]:
    """High nibbles stay where they are, 16 times as large, beside scales a 16th as large."""
    scales = six_bit_scales(unit)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            return unit.bits(unit.word(3 + q // 2 * 8 + g, per_half=16), 0, (15, 240)[q % 2])

        return six_bit_run(unit, q, codes, scales, (1.0, 1 / 16)[q % 2])

    return [run(q) for q in range(4)]


FORMS = forms_of(Blocks(q4_k, unit=128, halves=2, runs=_runs))
