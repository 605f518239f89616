"""What a row kernel computes, without the graph: nodes, what they read, and the shape of a row.

Expressions are plain data and compare by content, so that equal ones of many layers share one function.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

from rlxflow.quick_dataclass import dataclass

Rows = Literal["token", "sequence", "first", "none"]

REDUCTIONS = ("layer_norm", "rms_norm", "l2_normalize", "softmax")
WHOLE_ROW = (*REDUCTIONS, "rope")  # ops that look at several columns at once, and work on the last axis
PICKED = ("gather", "select_token")  # ops whose value is a row found elsewhere


@dataclass(frozen=True)
class Arg:
    """An array that a kernel reads.

    - `kind`: `buffer` (ours, rows padded), `constant`, `input` (the caller's, rows not padded), `table` (rows
      picked by ids), `ids` (the caller's), `host` (made for the call, a row per token or sequence of it),
      `mask` (one float per token, 0 or 1);
    - `rows`: which row belongs to a row of the kernel: the token's, its sequence's, the first token of the
      sequence, or none;
    - `stride`: floats between rows; `inner`: the shape of a row, without leading ones;
    - `dtype`: of ids, i32 or i64; all else is f32;
    - `form`: of a table that is packed into panels.
    """

    kind: Literal["buffer", "constant", "input", "table", "ids", "host", "mask"]
    rows: Rows
    stride: int
    inner: tuple[int, ...]
    dtype: str = "f32"
    form: str = ""


@dataclass(frozen=True)
class FromStep:
    """The result of an earlier step."""

    number: int


@dataclass(frozen=True)
class FromArg:
    """An array that is read."""

    number: int


Operand = FromStep | FromArg | float | None


@dataclass(frozen=True)
class Step:
    """One op on a row. `attrs` are sorted; operands name earlier steps, args or numbers."""

    op: str
    attrs: tuple[tuple[str, float | int | bool], ...]
    operands: tuple[Operand, ...]

    def attr(self, name: str) -> float:
        return dict(self.attrs)[name]


@dataclass(frozen=True)
class Expression:
    """Steps, operands before users; the last one is the result. `inner` is the shape of a row of it."""

    domain: Literal["token", "sequence"]
    inner: tuple[int, ...]
    steps: tuple[Step, ...]
    args: tuple[Arg, ...]
    by_last_axis: bool = False  # evaluate it run by run even where that is not necessary

    @property
    def width(self) -> int:
        return math.prod(self.inner)

    @cached_property
    def segments(self) -> tuple[int, int]:
        """(count, width): a row is evaluated in this many pieces of equal width.

        One piece where nothing broadcasts within a row or reduces a part of it; else the last axis.
        """
        arrays = ("buffer", "constant", "input", "table", "host")
        widths = {math.prod(a.inner) for a in self.args if a.kind in arrays}
        parts = (
            self.by_last_axis or any(s.op in WHOLE_ROW for s in self.steps) or not widths <= {1, self.width}
        )
        if len(self.inner) < 2 or not parts:
            return 1, self.width
        return self.width // self.inner[-1], self.inner[-1]

    @cached_property
    def scratch_width(self) -> int:
        """Floats that a row in scratch needs: a piece, or a whole row of a packed table."""
        return max([self.segments[1], *(a.stride for a in self.args if a.form)])

    def needed(self, target: int, known: frozenset[int]) -> tuple[int, ...]:
        """The steps that `target` is computed from, in order; those in `known` end the search."""
        found: set[int] = {target}
        for i in range(target, -1, -1):
            if i in found and i not in known:
                found |= {o.number for o in self.steps[i].operands if isinstance(o, FromStep)}
        return tuple(sorted(found))


def strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without leading ones."""
    start = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    return shape[start:]
