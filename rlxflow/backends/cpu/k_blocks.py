"""K-quants: formats with blocks of 256 elements, whose runs have small integers for scales and minima.

x is rounded per 256 elements too (see `QuantisedK`), so all sums of a block are integers, exact in i32:

Σ w·x ≈ s·(scale·Σ factor·2ᵉ·Σ (code - zero)·q - least·Σ minimum·2ᵉ·Σ q).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlxflow.backends.cpu.blocks import Run, Unit
from rlxflow.backends.cpu.code import Value
from rlxflow.quick_dataclass import dataclass

UNIT = 128  # elements that the kernels unpack in one go: half a block
BLOCK = 256


@dataclass(frozen=True)
class Half:
    """Half a block: value = scale · factor · (code - zero) - least · minimum.

    - `size`: elements of a run, 16 or 32;
    - `codes`: (run, g) emits the codes of elements 4·g … 4·g + 3 of a run, one to a byte;
    - `scale`, `least`: f32 vectors, the same in both halves of a block; no `least`: no minima;
    - `factors`: an i32 vector for every run;
    - `minima`: words of four, a byte for every run;
    - `zero`: 0 or 32.

    Σ |factor·(code - zero)|·127·8 over a block stays below 2³¹.
    """

    size: int
    codes: Callable[[int, int], Value]
    scale: Value
    factors: Sequence[Value]
    zero: int = 0
    least: Value | None = None
    minima: Sequence[Value] = ()


Halves = Callable[[Unit], Half]


def runs_of(halves: Halves) -> Callable[[Unit], list[Run]]:
    """The same as `Run`s, for what reads f32."""

    def runs(unit: Unit) -> list[Run]:
        half, code = halves(unit), unit.code

        def run(q: int) -> Run:
            scale = code.fmul(half.scale, code.sitofp(half.factors[q], code.vector))
            low = None
            if half.least is not None:
                least = code.sitofp(unit.byte(half.minima[q // 4], q % 4), code.vector)
                low = code.fmul(half.least, least)
            return Run(half.size * q, half.size, lambda g: half.codes(q, g), scale, half.zero, low)

        return [run(q) for q in range(UNIT // half.size)]

    return runs
