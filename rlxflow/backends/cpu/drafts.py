"""What a plan is drafted from: buffers, and steps whose addresses are not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from rlxflow.backends.cpu.describe import Source
from rlxflow.backends.cpu.domain import View, rows_of
from rlxflow.backends.cpu.plan import Given
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.regions import Region
from rlxflow.ir.dims import Dim
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.backends.cpu.plan import Kernel


@dataclass(eq=False)
class Unit:
    """What lies in one buffer: the root of a region, or products of one x side by side.

    `over` are roots of row ops that are written over what they alone read, and their columns.
    """

    members: list[Region]
    over: dict[Value, int] = field(default_factory=dict)

    @property
    def axis(self) -> Dim | None:
        return rows_of(self.members[0].root).axis

    @property
    def width(self) -> int:
        return sum(rows_of(r.root).width for r in self.members)

    def column(self, root: Value) -> int:
        """Where the rows of a member start, or those that are written over it."""
        if root in self.over:
            return self.over[root]
        before = self.members[: [r.root for r in self.members].index(root)]
        return sum(rows_of(r.root).width for r in before)


@dataclass(frozen=True)
class Coded:
    """Rows of a value, quantised: a buffer that all products share that read them so."""

    x: View
    layout: Layout
    depth: int

    @property
    def axis(self) -> Dim | None:
        return rows_of(self.x.base).axis

    @property
    def width(self) -> int:
        return self.layout.row_words(self.depth)


@dataclass(frozen=True)
class Records:
    """What the single tokens of a call gather from ranges of a cache, for the attention `root`."""

    root: Value
    width: int
    axis: Dim | None = None


@dataclass(frozen=True)
class KeyRows:
    """Which keys each sequence has: an axis of tokens."""

    axis: Dim


Buffer = Unit | Coded | Records  # each has rows per token of its axis, or per sequence


@dataclass(eq=False)
class Draft:
    """A step whose addresses are not known yet: what it writes (a buffer at a column, or an output).

    `keeps`: it also changes a state among its operands. It runs over the tokens of `axis`, or (None) those
    of what it writes.
    """

    kernel: Kernel
    operands: Sequence[Source | Coded | Records | KeyRows]
    result: tuple[Buffer, int] | Given
    result_at: int  # its index among the addresses
    label: str
    outputs: int = 0
    keeps: bool = False
    axis: Dim | None = None
