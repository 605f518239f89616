"""q2_k: 256 elements, runs of 16: d·scale·code - dmin·min.

Words of each half block: 2 of scales (low nibbles) and minima (high nibbles), a byte per run; 8 of crumbs:
bits 2·t and 2·t + 1 of byte l in 0…31 belong to element 32·t + l. (In the file all scales stand first.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_tiles import k_forms
from rlxflow.dtypes import q2_k


def _half(unit: Unit) -> Half:
    def codes(q: int, g: int) -> Value:
        return unit.bits(unit.word(2 + 4 * (q % 2) + g, per_half=10), q // 2 * 2, 3)

    both = [unit.word(i, per_half=10) for i in (0, 1)]
    scales, minima = ([unit.bits(word, s, 15) for word in both] for s in (0, 4))
    factors = [unit.byte(scales[q // 4], q % 4) for q in range(8)]
    return Half(16, codes, unit.number(0), factors, least=unit.number(1), minima=minima)


def _arrange(_: Code, word: Word) -> Iterable[Value]:
    return map(word, (0, 1, *range(4, 12), 2, 3, *range(12, 20)))


FORMS = k_forms(q2_k, _half, numbers=2, last=True, arrange=_arrange)
