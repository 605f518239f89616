"""What memory a model takes with a profile, told from headers."""

from __future__ import annotations

from rlxflow.flow.built import BuiltModel
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.compile import running
from rlxflow.runtime.decoding import CHUNK, cache_bytes
from rlxflow.weights.memory import available_memory


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: the weights as files have them (`stored`) and as the backend keeps them (`weights`), what must
    be free to load them (`loading`), and `activations` of a call of `tokens` tokens (None: not known). Of a
    decoder, the cache `per_token` of one sequence, for `context` tokens where a number was asked for, and
    `at_most` at the model's longest. What the machine has `available` (None: not known).
    """

    backend: str
    stored: int
    weights: int
    loading: int
    activations: int | None
    tokens: int
    cache_per_token: int
    context: int | None
    cache_at_context: int | None
    cache_at_most: int | None
    available: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the weights and the cache asked for fit; None where it is not known what is available."""
        wanted = self.loading + (self.cache_at_context or 0)
        return None if self.available is None else wanted <= self.available


def memory_plan(built: BuiltModel, max_positions: int | None, context: int | None) -> MemoryPlan:
    """The plan of a model with the profile it was built for; prompts are read in chunks of 512 tokens."""
    graph = built.graph
    tokens = min(CHUNK, max_positions or CHUNK, context or CHUNK)
    backend, use = running(built, tokens)
    return MemoryPlan(
        backend=backend,
        stored=built.report.nbytes,
        weights=use.weights,
        loading=use.loading,
        activations=use.activations,
        tokens=tokens,
        cache_per_token=cache_bytes(graph, 1, 1) - cache_bytes(graph, 1, 0),
        context=context,
        cache_at_context=None if context is None else cache_bytes(graph, 1, context),
        cache_at_most=None if max_positions is None else cache_bytes(graph, 1, max_positions),
        available=available_memory(),
    )
