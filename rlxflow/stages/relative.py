"""Relative position bias: a number per head and distance, added to the attention scores."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.relative import relative_buckets
from rlxflow.ops.shape import gather, transpose
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.stream import store
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class RelativePositionBiasStage:
    """bias[h, i, j] = W[bucket(j − i), h], a stream that attentions add; W: [num_buckets, num_heads].

    The buckets are those of T5 (see the op `relative_buckets`); the active value [B, S, H] passes.
    """

    key: str
    num_heads: int
    num_buckets: int = 32
    max_distance: int = 128
    stream: str = "position_bias"

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.num_buckets, self.num_heads)),)

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        x = e.need(x)
        buckets = relative_buckets(
            size=x.dim(1), num_buckets=self.num_buckets, max_distance=self.max_distance
        )
        store(e, self.stream, transpose(gather(e.weight(self.key), buckets), perm=(2, 0, 1)))
        return x
