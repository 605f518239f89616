"""One program per range of token counts, and the choice among them at each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlxflow.backends.base import CacheState, Executable
from rlxflow.backends.rows import BATCH, TOKENS
from rlxflow.dtypes import Array
from rlxflow.fusion.pipeline import TokenRange
from rlxflow.ir.values import Value


class TokenPlans:
    """An `Executable` that runs, for batch · seq tokens, the program made for so many.

    The programs differ in what was fused, never in inputs, outputs or caches.
    """

    def __init__(self, plans: Sequence[tuple[TokenRange, Executable]]) -> None:
        self.plans = tuple(plans)
        self.graph = self.plans[0][1].graph
        self._counted = next((n for n, v in self.graph.inputs.items() if _per_token(v)), None)

    def plan_for(self, tokens: int) -> Executable:
        """The program for so many tokens; the one for the fewest where there are none."""
        return next((p for r, p in self.plans if tokens in r), self.plans[0][1])

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        array = inputs.get(self._counted or "")
        shape: tuple[int, ...] = getattr(array, "shape", ())  # what is no array is refused by the program
        tokens = shape[0] * shape[1] if len(shape) >= 2 else 0
        return self.plan_for(tokens)(inputs, state, outputs)

    def new_state(self, batch: int, capacity: int) -> CacheState:
        return self.plans[0][1].new_state(batch, capacity)


def _per_token(value: Value) -> bool:
    return value.shape[:2] == (BATCH, TOKENS)
