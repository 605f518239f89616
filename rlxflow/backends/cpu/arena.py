"""Memory for intermediate values: slots, shared by values that are not alive at the same time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rlxflow.backends.cpu.memory import address
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

SLACK = 64  # floats behind a slot; kernels load whole vectors at the end of a row


@dataclass(frozen=True)
class Need:
    """A buffer: who has rows, floats between rows, and the first and last step that touch it.

    `rows` is 0 for sequences, n for the tokens of axis n - 1.
    """

    name: Hashable
    rows: int
    stride: int
    first: int
    last: int


@dataclass(frozen=True)
class Slot:
    """A place in the arena: Σ `before`[n]·(rows of kind n) + `fixed` floats from its start, and room for
    `stride` floats per row of kind `rows`, see `Need`."""

    rows: int
    stride: int
    before: tuple[int, ...]
    fixed: int


@dataclass(frozen=True)
class Arena:
    """The slots, and which buffer lies in which."""

    slots: tuple[Slot, ...]
    slot_of: dict[Hashable, int]

    def floats(self, counts: Sequence[int]) -> int:
        """The size of an arena for so many rows of each kind."""
        return sum(s.stride * counts[s.rows] + SLACK for s in self.slots)

    def ranges(self, arenas: Sequence[Array], counts: Sequence[int]) -> list[tuple[int, int]]:
        """The first and the end address of every slot of every arena."""
        found = []
        for arena in arenas:
            for slot in self.slots:
                start = sum(a * b for a, b in zip(slot.before, counts, strict=True)) + slot.fixed
                size = slot.stride * counts[slot.rows] + SLACK
                found.append((address(arena) + 4 * start, address(arena) + 4 * (start + size)))
        return found


def assign(needs: Sequence[Need], kinds: int) -> Arena:
    """Slots by liveness: a buffer takes the free slot that grows least, or a new one."""
    strides: list[int] = []
    rows: list[int] = []
    busy: dict[int, int] = {}  # slot → last step of its buffer
    slot_of: dict[Hashable, int] = {}
    for need in sorted(needs, key=lambda n: n.first):
        free = [i for i, d in enumerate(rows) if d == need.rows and busy[i] < need.first]
        if free:
            slot = min(free, key=lambda i: (max(need.stride - strides[i], 0), strides[i]))
            strides[slot] = max(strides[slot], need.stride)
        else:
            slot = len(strides)
            strides.append(need.stride)
            rows.append(need.rows)
        busy[slot] = need.last
        slot_of[need.name] = slot
    slots, before = [], [0] * kinds
    for i, (kind, stride) in enumerate(zip(rows, strides, strict=True)):
        slots.append(Slot(kind, stride, tuple(before), SLACK * i))
        before[kind] += stride
    return Arena(tuple(slots), slot_of)
