"""Memory for intermediate values: slots, shared by values that are not alive at the same time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from rlxflow.backends.cpu.domain import Domain
from rlxflow.backends.cpu.memory import address
from rlxflow.dtypes import Array

SLACK = 64  # floats behind a slot; kernels load whole vectors at the end of a row


@dataclass(frozen=True)
class Need:
    """A buffer: who has rows, floats between rows, and the first and last step that touch it."""

    name: Hashable
    domain: Domain
    stride: int
    first: int
    last: int


@dataclass(frozen=True)
class Slot:
    """A place in the arena: `token_floats`·(token rows) + `sequence_floats`·(sequence rows) + `fixed` floats
    from its start, and room for `stride` floats per row of its domain."""

    domain: Domain
    stride: int
    token_floats: int
    sequence_floats: int
    fixed: int


@dataclass(frozen=True)
class Arena:
    """The slots, and which buffer lies in which."""

    slots: tuple[Slot, ...]
    slot_of: dict[Hashable, int]

    def floats(self, tokens: int, sequences: int) -> int:
        """The size of an arena for so many rows."""
        rows = {"token": tokens, "sequence": sequences}
        return sum(s.stride * rows[s.domain] + SLACK for s in self.slots)

    def ranges(self, arenas: Sequence[Array], tokens: int, sequences: int) -> list[tuple[int, int]]:
        """The first and the end address of every slot of every arena."""
        rows = {"token": tokens, "sequence": sequences}
        found = []
        for arena in arenas:
            for slot in self.slots:
                start = slot.token_floats * tokens + slot.sequence_floats * sequences + slot.fixed
                size = slot.stride * rows[slot.domain] + SLACK
                found.append((address(arena) + 4 * start, address(arena) + 4 * (start + size)))
        return found


def assign(needs: Sequence[Need]) -> Arena:
    """Slots by liveness: a buffer takes the free slot that grows least, or a new one."""
    strides: list[int] = []
    domains: list[Domain] = []
    busy: dict[int, int] = {}  # slot → last step of its buffer
    slot_of: dict[Hashable, int] = {}
    for need in sorted(needs, key=lambda n: n.first):
        free = [i for i, d in enumerate(domains) if d == need.domain and busy[i] < need.first]
        if free:
            slot = min(free, key=lambda i: (max(need.stride - strides[i], 0), strides[i]))
            strides[slot] = max(strides[slot], need.stride)
        else:
            slot = len(strides)
            strides.append(need.stride)
            domains.append(need.domain)
        busy[slot] = need.last
        slot_of[need.name] = slot
    slots, tokens, sequences = [], 0, 0
    for i, (domain, stride) in enumerate(zip(domains, strides, strict=True)):
        slots.append(Slot(domain, stride, tokens, sequences, SLACK * i))
        tokens += stride if domain == "token" else 0
        sequences += stride if domain == "sequence" else 0
    return Arena(tuple(slots), slot_of)
