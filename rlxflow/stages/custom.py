"""A stage from a closure: the way to the raw graph when no stage fits yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class CustomStage:
    """Runs `function(e, x)`; ops are called as functions. Stages are equal if the closure is the same."""

    function: Callable[[Emit, Value | None], Value | None]
    specs: tuple[WeightSpec, ...] = ()
    name: str = "custom"

    @classmethod
    def of(
        cls,
        function: Callable[[Emit, Value | None], Value | None],
        weights: Mapping[str, tuple[int | None, ...]] | tuple[WeightSpec, ...],
        name: str,
    ) -> CustomStage:
        """A custom stage whose weights are given as specs or as {key: shape}."""
        if isinstance(weights, Mapping):
            weights = tuple(WeightSpec(key, tuple(shape)) for key, shape in weights.items())
        return cls(function, weights, name)

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.specs

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        return self.function(e, x)
