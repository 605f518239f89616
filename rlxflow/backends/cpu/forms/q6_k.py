"""q6_k: 256 elements, runs of 16: d·scale·(code - 32).

Words of each half block: 2 of signed scales; 3 for every run: the low 6 bits of each byte are the codes of
elements 0…11, the high pairs of bits together those of 12…15. So a kernel reads every word once, in order.
(In the file low nibbles, high pairs and scales stand apart.)
"""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.backends.cpu.blocks import Unit, Word
from rlxflow.backends.cpu.code import Code, Value
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_tiles import k_forms
from rlxflow.dtypes import q6_k

HALF = 26


def _half(unit: Unit) -> Half:
    code = unit.code

    def codes(q: int, g: int) -> Value:
        first = 2 + 3 * q
        if g < 3:
            return unit.bits(unit.word(first + g, HALF), 0, 63)
        pairs = [unit.bits(unit.word(first + i, HALF), 6 - 2 * i, 3 << 2 * i) for i in range(3)]
        return code.or_(code.or_(*pairs[:2]), pairs[2])

    factors = [unit.signed_byte(unit.word(q // 4, HALF), q % 4) for q in range(8)]
    return Half(16, codes, unit.number(0), factors, zero=32)


def _arrange(code: Code, word: Word) -> Iterable[Value]:
    """From 32 words of nibbles, 16 of pairs, 4 of scales; bits of elements 32·t + l are in byte l of both."""
    for half in (0, 1):
        yield from map(word, range(48 + 2 * half, 50 + 2 * half))
        for t in range(4):
            for first in (0, 4):
                codes = []
                for g in range(first, first + 4):
                    low = code.byte_bits(word(16 * half + t % 2 * 8 + g), t // 2 * 4, 15)
                    codes.append(code.or_(low, code.byte_bits(word(32 + 8 * half + g), 2 * t - 4, 48)))
                for i in range(3):
                    yield code.or_(codes[i], code.byte_bits(codes[3], 2 * i - 6, 192))


FORMS = k_forms(q6_k, _half, numbers=1, last=True, arrange=_arrange)
