"""The caches of a call: checked once per set of arrays, for a decoder has dozens and is called per token."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import ref

from rlxflow.backends.base import CacheState
from rlxflow.backends.cpu.memory import address
from rlxflow.backends.inputs import checked_caches
from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.ir.graph import Graph


class States:
    """Finds the addresses of the arrays of a graph's states, and keeps none of them alive."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: tuple[ref[Array], ...] = ()
        self._shape = (-1, -1)  # batch and capacity of the arrays known
        self._addresses: dict[str, int] = {}

    def addresses(self, state: CacheState | None, sizes: dict[str, int]) -> tuple[Mapping[str, int], int]:
        """Where the arrays of the graph's states begin, by name, and their capacity.

        Raises as `checked_caches`, and `InputError` for arrays that cannot be written to in place.
        """
        if state is not None and self._shape == (sizes.get("B"), state.capacity):
            arrays = state.arrays
            known = all(a is r() for a, r in zip(arrays.values(), self._known, strict=False))
            if known and [*arrays] == [*self._addresses]:
                return self._addresses, state.capacity
        arrays = checked_caches(self._graph, state, sizes)
        for name, array in arrays.items():
            if not (array.flags.c_contiguous and array.flags.writeable):
                hint = "use a state that this program's new_state made"
                raise InputError(f"cache {name!r} is not one writable block", code="RLX-R014", hint=hint)
        self._known = tuple(map(ref, arrays.values()))
        self._shape = (sizes.get("B", 0), sizes.get("C", 0))
        self._addresses = {name: address(array) for name, array in arrays.items()}
        return self._addresses, self._shape[1]

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Of the last call, those that somebody still has."""
        return tuple(array for r in self._known if (array := r()) is not None)
