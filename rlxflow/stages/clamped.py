"""The clamped feed-forward network of gpt-oss."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.dims import Shape
from rlxflow.ir.values import Value
from rlxflow.ops.activation import sigmoid
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add, maximum, minimum, mul
from rlxflow.ops.leaves import full
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.ffn import GatedMlpStage, intermediate_shape
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class ClampedMlpStage:
    """((u + 1) ⊙ g ⊙ σ(alpha · g)) · downᵀ + b, with g = min(gate, limit) and u = clip(up, −limit, limit).

    gate = x · gateᵀ + b and up = x · upᵀ + b; x: [..., hidden_size]. Each of `{prefix}.gate_proj|up_proj|
    down_proj` has a weight and a bias. It is what an expert of HF's `GptOssExperts` computes, whose
    `gate_up_proj` has the columns of gate and up in turn.
    """

    prefix: str
    intermediate_size: int | None = None
    hidden_size: int | None = None
    limit: float = 7.0
    alpha: float = 1.702

    def weights(self) -> tuple[WeightSpec, ...]:
        n, h = self.intermediate_size, self.hidden_size
        return GatedMlpStage.hf(self.prefix, n, bias=True, hidden_size=h).weights()

    def intermediate_shape(self, hidden: Shape) -> Shape:
        return intermediate_shape(hidden, self.intermediate_size)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        gate, up = self._linear(e, x, "gate_proj"), self._linear(e, x, "up_proj")

        def number(value: float) -> Value:
            return full(value=value, dtype=gate.dtype, shape=())

        gate = minimum(gate, number(self.limit))
        up = maximum(minimum(up, number(self.limit)), number(-self.limit))
        gated = mul(gate, sigmoid(mul(gate, number(self.alpha))))
        return self._linear(e, mul(add(up, number(1.0)), gated), "down_proj")

    def _linear(self, e: Emit, x: Value, name: str) -> Value:
        key = f"{self.prefix}.{name}"
        return matmul_bias_act(x, e.weight(f"{key}.weight"), e.weight(f"{key}.bias"))
