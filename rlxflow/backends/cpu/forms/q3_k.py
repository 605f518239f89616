"""q3_k: 256 elements, runs of 16: d·(scale - 32)·(code - 4).

Words: 3 of scales of 6 bits, those of both halves in the nibbles of two words, their high bits in the third;
of each half block 4 of third bits among 8 of crumbs, which are as in q2_k. (In the file the third bits of
both halves stand first, 8 words, and the scales last.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.high_bits import beside_low, high_word, low_word
from rlxflow.dtypes import q3_k

HALF = 12


def _runs(unit: Unit) -> list[Run]:
    code, d = unit.code, unit.number(0)
    high = unit.by_half(unit.word(2), 4)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            at = 4 * (q % 2) + g
            crumbs = unit.bits(unit.word(3 + low_word(at), HALF), q // 2 * 2, 3)
            third = unit.bits(unit.word(3 + high_word(at), HALF), at % 2 * 4 + q // 2 - 2, 4)
            return code.or_(crumbs, third)

        low = unit.bits(unit.by_half(unit.word(q // 4), 4), 0, 15)
        scales = code.or_(low, unit.bits(high, q // 4 * 2 - 4, 48))
        scale = code.fsub(unit.byte(scales, q % 4), code.fill(32.0))
        return Run(16 * q, 16, codes, code.fmul(d, scale), zero=4)

    return [run(q) for q in range(8)]


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    yield from map(word, range(24, 27))
    yield from beside_low(code, word, 0, (range(8, 16), range(16, 24)))


FORMS = forms_of(Blocks(q3_k, unit=128, halves=1, runs=_runs, halves_last=True, arrange=_arrange))
