"""q3_k: 256 elements, runs of 16: d·(scale - 32)·(code - 4).

Words: 3 of scales of 6 bits, those of both halves in the nibbles of two words, their high bits in the third;
of each half block 4 of third bits among 8 of crumbs, which are as in q2_k. (In the file the third bits of
both halves stand first, 8 words, and the scales last.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.high_bits import beside_low, high_word, low_word
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_tiles import k_forms
from rlxflow.dtypes import q3_k

HALF = 12


def _half(unit: Unit) -> Half:
    """Codes are 8 times as large as in the file, so that their zero is 32, and d an eighth."""
    code = unit.code

    def codes(q: int, g: int) -> Value:
        at = 4 * (q % 2) + g
        crumbs = unit.bits(unit.word(3 + low_word(at), HALF), q // 2 * 2 - 3, 24)
        third = unit.bits(unit.word(3 + high_word(at), HALF), at % 2 * 4 + q // 2 - 5, 32)
        return code.or_(crumbs, third)

    def factor(q: int) -> Value:
        low = unit.bits(unit.by_half(unit.word(q // 4), 4), 0, 15)
        scales = code.or_(low, unit.bits(unit.by_half(unit.word(2), 4), q // 4 * 2 - 4, 48))
        return code.sub(unit.byte(scales, q % 4), code.fill_int(32))

    scale = code.fmul(unit.number(0), code.fill(1 / 8))
    return Half(16, codes, scale, [factor(q) for q in range(8)], zero=32)


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    yield from map(word, range(24, 27))
    yield from beside_low(code, word, 0, (range(8, 16), range(16, 24)))


FORMS = k_forms(q3_k, _half, numbers=1, last=True, arrange=_arrange)
