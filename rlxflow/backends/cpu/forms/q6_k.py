"""q6_k: 256 elements, runs of 16: d·scale·(code - 32).

Words of each half block: 2 of signed scales; 3 for every run: the low 6 bits of each byte are the codes of
elements 0…11, the high pairs of bits together those of 12…15. So a kernel reads every word once, in order.
(In the file low nibbles, high pairs and scales stand apart.)
"""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import Array, q6_k

HALF = 26


def _runs(unit: Unit) -> list[Run]:
    code, d = unit.code, unit.number(0)

    def run(q: int) -> Run:
        def codes(g: int) -> Value:
            first = 2 + 6 * q + g // 4 * 3
            if g % 4 < 3:
                return unit.bits(unit.word(first + g % 4, HALF), 0, 63)
            pairs = [unit.bits(unit.word(first + i, HALF), 6 - 2 * i, 3 << 2 * i) for i in range(3)]
            return code.or_(code.or_(*pairs[:2]), pairs[2])

        scales = unit.word(q // 2, HALF)
        factors = tuple(unit.signed_byte(scales, q % 2 * 2 + i) for i in (0, 1))
        return Run(32 * q, 32, codes, d, zero=32, factors=factors)

    return [run(q) for q in range(4)]


def _arrange(words: Array) -> Array:
    """From 32 words of nibbles, 16 of pairs, 4 of scales; bits of elements 32·t + l are in byte l of both."""
    nibbles, pairs = words[:, :32].reshape(-1, 2, 2, 8), words[:, 32:48].reshape(-1, 2, 8)
    codes = np.empty((len(words), 2, 4, 8), np.uint32)
    for t in range(4):
        low = (nibbles[:, :, t % 2] >> np.uint32(t // 2 * 4)) & np.uint32(0x0F0F0F0F)
        high = (pairs >> np.uint32(2 * t)) & np.uint32(0x03030303)
        codes[:, :, t] = low | high << np.uint32(4)
    runs = codes.reshape(-1, 2, 8, 4)
    last = runs[..., 3:]
    shifts = np.arange(0, 6, 2, dtype=np.uint32)
    runs = runs[..., :3] | ((last >> shifts) & np.uint32(0x03030303)) << np.uint32(6)
    halves = np.concatenate([words[:, 48:].reshape(-1, 2, 2), runs.reshape(-1, 2, 24)], axis=2)
    return halves.reshape(-1, 2 * HALF)


FORMS = forms_of(Blocks(q6_k, unit=128, halves=1, runs=_runs, halves_last=True, arrange=_arrange))
