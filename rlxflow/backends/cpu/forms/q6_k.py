"""q6_k: 256 elements, runs of 16: d·scale·(code - 32).

Words of each half block: 2 of signed scales; 8 of nibbles, each followed by one of crumbs, their high bits
(as in q2_k); 8 of nibbles. The low nibbles are those of elements 0…63, the high ones of 64…127. (In the file
the words of a kind stand together.)
"""

from __future__ import annotations

import numpy as np

from rlxflow.backends.cpu.block_tiles import forms_of
from rlxflow.backends.cpu.blocks import Blocks, Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.dtypes import Array, q6_k

HALF = 26


def _runs(unit: Unit) -> list[Run]:
    d = unit.number(0)

    def run(q: int) -> Run:
        quarter = q // 2

        def codes(g: int) -> Value:
            at = 4 * (q % 2) + g
            nibbles = unit.bits(unit.word(18 + at if quarter % 2 else 2 + 2 * at, HALF), quarter // 2 * 4, 15)
            return unit.code.or_(nibbles, unit.bits(unit.word(3 + 2 * at, HALF), quarter * 2 - 4, 48))

        scale = unit.signed_byte(unit.word(q // 4, HALF), q % 4)
        return Run(16 * q, 16, codes, unit.code.fmul(d, scale), zero=32)

    return [run(q) for q in range(8)]


def _arrange(words: Array) -> Array:
    """From 32 words of nibbles, 16 of crumbs, 4 of scales."""
    nibbles, crumbs = words[:, :32].reshape(-1, 2, 16), words[:, 32:48].reshape(-1, 2, 8)
    pairs = np.stack([nibbles[:, :, :8], crumbs], axis=3).reshape(-1, 2, 16)
    halves = np.concatenate([words[:, 48:].reshape(-1, 2, 2), pairs, nibbles[:, :, 8:]], axis=2)
    return halves.reshape(-1, 2 * HALF)


FORMS = forms_of(Blocks(q6_k, unit=128, halves=1, runs=_runs, halves_last=True, arrange=_arrange))
