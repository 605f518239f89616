"""Marking a value as an output of the flow."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class OutputStage:
    """The active value becomes the output `output_name` and flows on."""

    output_name: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        e.output(self.output_name, e.need(x))
        return x
