"""What a backend is: it claims ops, and compiles a graph of claimed ops into an executable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import InputError
from rlxflow.ir.dims import bind_shape, names
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import Weights

CACHE_LINE = 64  # bytes
TOGETHER = 8  # caches that share a block of memory

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


@dataclass
class CacheState:
    """The caches of some sequences: a handle that the caller keeps and the executable fills.

    `arrays` maps a cache name to [B, Hkv, capacity, D]; `lengths` counts the valid rows per sequence. Arrays
    named in `recurrent` have no positions: each sums up all that its sequence has seen.
    """

    arrays: dict[str, Array]
    lengths: Array
    capacity: int
    recurrent: frozenset[str] = frozenset()

    def grow(self, capacity: int) -> None:
        """Make room for so many positions. What is there is copied: ask for `more_room` where tokens come one
        by one."""
        if capacity <= self.capacity:
            return
        growing = {name: a for name, a in self.arrays.items() if name not in self.recurrent}
        types = {n: ((*a.shape[:2], capacity, a.shape[3]), a.dtype) for n, a in growing.items()}
        del growing  # so that the memory of some may be that of the next
        for name, new in _zeros(types):
            new[:, :, : self.capacity] = self.arrays[name]
            self.arrays[name] = new
        self.capacity = capacity

    def truncate(self, lengths: Array) -> None:
        """Forget the positions from `lengths[b]` on; lengths are 0 or more.

        A recurrent state can only forget all: raises `InputError` (R080) for a length in between.
        """
        kept = np.minimum(self.lengths, np.maximum(lengths, 0)).astype(np.int32)
        if self.recurrent and ((kept != self.lengths) & (kept != 0)).any():
            hint = "truncate to 0 and run the tokens again"
            raise InputError("a recurrent state cannot go back", code="RLX-R080", hint=hint)
        for name in self.recurrent:
            self.arrays[name][kept == 0] = 0
        self.lengths = kept


def more_room(capacity: int) -> int:
    """What caches of this capacity are to grow to: copying then takes O(1) per token, and a fifth of the new
    ones lies idle at most."""
    return capacity + -(-capacity // 4)


def recurrent_states(graph: Graph) -> frozenset[str]:
    """The states of a graph that have no axis of positions."""
    return frozenset(s.name for s in graph.states if not any("C" in names(d) for d in s.before.shape))


def empty_state(graph: Graph, batch: int, capacity: int) -> CacheState:
    """Caches for `batch` sequences of up to `capacity` tokens, of which none has been seen."""
    sizes = {"B": batch, "C": capacity}
    types = {s.name: (bind_shape(s.before.shape, sizes), to_numpy(s.before.dtype)) for s in graph.states}
    return CacheState(dict(_zeros(types)), np.zeros(batch, np.int32), capacity, recurrent_states(graph))


def _zeros(types: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> Iterator[tuple[str, Array]]:
    """Arrays of zeros by name, each at a cache line; some have a block of memory together, which may get
    large pages and is freed when they are."""
    left = list(types.items())
    while left:
        some, left = left[:TOGETHER], left[TOGETHER:]
        sizes = [math.prod(shape) * dtype.itemsize for _, (shape, dtype) in some]
        block = np.zeros(sum(size + CACHE_LINE for size in sizes) + CACHE_LINE, np.uint8)
        start = -block.ctypes.data % CACHE_LINE
        for (name, (shape, dtype)), size in zip(some, sizes, strict=True):
            yield name, block[start : start + size].view(dtype).reshape(shape)
            start += -(-size // CACHE_LINE) * CACHE_LINE


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a program takes, told before any weight is read.

    `weights` as the program keeps them; `reading` beside them while they are read; `activations` of a call,
    outputs not counted (None: not known).
    """

    weights: int
    reading: int
    activations: int | None

    @property
    def loading(self) -> int:
        """What must be free to load the program."""
        return self.weights + self.reading


def largest_stored(graph: Graph) -> int:
    """Bytes of the largest weight as its file has it."""
    return max((v.dtype.nbytes(v.shape) for v in graph.params.values()), default=0)  # type: ignore[arg-type]


class Executable(Protocol):
    """A compiled program.

    Calling it runs the program once on named arrays and returns the outputs named (all by default); what
    only other outputs need is not computed. `state` holds the caches of a decoder and is updated in place.
    Results own their memory.
    """

    graph: Graph

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]: ...

    def new_state(self, batch: int, capacity: int) -> CacheState: ...


class Backend(Protocol):
    """A name, the nodes it can run, and a compile step. What it does not claim is decomposed for it."""

    name: str

    def runs(self, op: Op[..., Any]) -> bool:
        """Whether it may claim a node of that op."""

    def claims(self, node: Node) -> bool: ...

    def memory(self, graph: Graph, profile: CompileProfile, tokens: int) -> MemoryUse:
        """What `compile` would take, and a call of one sequence of so many tokens."""

    def compile(self, graph: Graph, weights: Weights, profile: CompileProfile) -> Executable:
        """Raises `WeightsError` (W036), before any weight is read, where there is no room for them."""
