"""From token vectors to one vector per sequence."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.norm import l2_normalize
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import reshape, slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class ClsTokenPoolStage:
    """The first token's vector: x [B, S, H] → [B, H]."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        first = slice_(x, axis=1, start=0, stop=1)
        return reshape(first, shape=(x.dim(0), x.dim(2)))


@dataclass(frozen=True)
class MeanPoolStage:
    """The mean of the valid tokens: x [B, S, H], mask input integer [B, S] → [B, H]."""

    mask_input: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return mean_pool(e.need(x), e.input(self.mask_input))


@dataclass(frozen=True)
class L2NormalizeStage:
    """x / ‖x‖₂ over the last axis."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return l2_normalize(e.need(x))
