"""What memory a model takes on the reference backend, told from its graph."""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow.ir.graph import Graph
from rlxflow.runtime.decoding import cache_bytes
from rlxflow.runtime.load import resident_bytes
from rlxflow.weights.memory import available_memory


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes: the `weights` as the reference backend holds them while it loads, the cache `per_token` of one
    sequence and `at_most` at the model's longest, and what the machine has `available` (None: unknown).
    The values between ops are not counted.
    """

    weights: int
    cache_per_token: int
    cache_at_most: int | None
    available: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the weights fit; None where it is not known what is available."""
        return None if self.available is None else self.weights <= self.available


def memory_plan(graph: Graph, max_positions: int | None) -> MemoryPlan:
    """The plan of a graph whose params have their sizes."""
    per_token = cache_bytes(graph, 1, 1) - cache_bytes(graph, 1, 0)
    at_most = None if max_positions is None else cache_bytes(graph, 1, max_positions)
    return MemoryPlan(resident_bytes(graph), per_token, at_most, available_memory())
