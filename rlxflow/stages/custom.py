"""A stage from a closure: the way to the raw graph when no stage fits yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec, weight_specs


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
        weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec],
        name: str,
    ) -> CustomStage:
        """A custom stage whose weights are given as specs or as {key: shape}."""
        return cls(function, weight_specs(weights), name)

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.specs

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        return self.function(e, x)


# A plugin is a custom stage under a name of its own.
PluginStage: TypeAlias = CustomStage
