"""Unpacked panels of codes in 0 … 15 that meet half of x in pairs (Winograd 1968).

    q1·c1 + q2·c2 = (q1 + c2 + 120)·(q2 + c1 - 8) - (c2 + 120)·(c1 - 8) + (8·q1 - 120·q2 - q1·q2)

For q in -120 … 120 all factors are bytes, so that 8 products of bytes cost one instruction and two sums of
bytes, for which Zen has other units. The second term belongs to the weights alone, the last one to a row
of x: it has it with it, see `QuantisedK`. All of it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llvmlite import ir

from rlxflow.backends.cpu.code import I8, Code, Module, Value, i64
from rlxflow.backends.cpu.k_blocks import Half
from rlxflow.backends.cpu.k_panels import STEP, UnpackedK, both_vectors
from rlxflow.backends.cpu.k_rows import Rows
from rlxflow.backends.cpu.kernels.dot import dot4
from rlxflow.quick_dataclass import dataclass

PAIRS = ((0, 4), (1, 5))  # words of a run whose elements are pairs
ALONE = (2, 3, 6, 7)


@dataclass(frozen=True)
class PairedK(UnpackedK):
    """See `UnpackedPanels`. As `UnpackedK`, with -Σ (c1 - 8)·(c2 + 120) between a factor and its codes; of
    pairs there is c1 - 8 and c2 + 120. Where sums have no units of their own, it is `UnpackedK`."""

    @property
    def name(self) -> str:
        return "paired k"

    @property
    def _step(self) -> int:
        return super()._step + 1

    @property
    def _plain(self) -> UnpackedK:
        return UnpackedK(self.blocks, self.halves)

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        if module.target.sums_beside_products:
            return super().tile(module, height, shared)
        return self._plain.tile(module, height, shared)

    def unpack(self, module: Module) -> Value:
        return super().unpack(module) if module.target.sums_beside_products else self._plain.unpack(module)

    def code_words(self, code: Code, half: Half, run: int) -> Iterable[Value]:
        words = [half.codes(run, g) for g in range(STEP // 4)]
        total = code.nothing
        for first, second in PAIRS:
            words[first] = _sum_bytes(code, words[first], _fill_bytes(code, -8))
            words[second] = _sum_bytes(code, words[second], _fill_bytes(code, 120))
            total = dot4(code, total, words[second], words[first])
        return [code.neg(total), *words]

    def add_step(
        self, code: Code, rows: Sequence[Value], index: Value, line: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """See there. In four passes over the rows, each with as many products as sums and shifts, and with
        few vectors of weights, so that both units always find work and all sums stay in registers. Where x is
        read for one instruction at a time, that reads it itself: the processor renames few vectors ahead."""
        x = Rows(code, rows, code.mul(index, i64(STEP)))
        new, dots = list(sums), list[list[Value]]()

        def words(word: int) -> list[Value]:
            return both_vectors(code, line, 2 + word)

        def add_single(row: int, word: int, weights: Sequence[Value]) -> None:
            for c in (0, 1):
                code.in_order()
                dots[row][c] = dot4(code, dots[row][c], weights[c], x.four(row, word))

        code.in_order()
        weights, starts = words(ALONE[0]), both_vectors(code, line, 1)
        for row in range(x.count):
            dots.append([])
            for start in starts:
                code.in_order()
                dots[row].append(code.add(x.pairs(row), start))
            add_single(row, ALONE[0], weights)
        for (one, two), word in zip(PAIRS, ALONE[1:3], strict=True):
            code.in_order()
            firsts, seconds, weights = words(one), words(two), words(word)
            for row in range(x.count):
                code.in_order()
                q1, q2 = x.four(row, one), x.four(row, two)
                add_single(row, word, weights)
                for c, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
                    pair = _sum_bytes(code, q1, second), _sum_bytes(code, q2, first)
                    dots[row][c] = dot4(code, dots[row][c], *pair)
        code.in_order()
        weights, factors = words(ALONE[3]), both_vectors(code, line, 0)
        for row in range(x.count):
            add_single(row, ALONE[3], weights)
            own = slice(2 * row, 2 * row + 2)
            new[own] = x.add_scaled_row(row, new[own], dots[row], factors)
        return new


def _fill_bytes(code: Code, x: int) -> Value:
    kind = ir.VectorType(I8, 4 * code.lanes)
    return code.bitcast(ir.Constant(kind, [x] * kind.count), code.ints)


def _sum_bytes(code: Code, a: Value, b: Value) -> Value:
    kind = ir.VectorType(I8, 4 * code.lanes)
    return code.bitcast(code.add(code.bitcast(a, kind), code.bitcast(b, kind)), code.ints)
