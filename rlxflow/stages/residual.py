"""Skip connections. They nest: each add takes what the latest open save kept."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class ResidualSaveStage:
    """Keep the active value for the matching `ResidualAddStage`."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        e.state.residuals.append((e.need(x), e.path))
        return x


@dataclass(frozen=True)
class ResidualAddStage:
    """y = x + saved."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        if not e.state.residuals:
            raise e.error("RLX-F019", "nothing was saved to add", "put residual_save() before it")
        saved, _ = e.state.residuals.pop()
        return add(x, saved)
