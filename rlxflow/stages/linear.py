"""A linear layer."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class LinearStage:
    """y = act(x · wᵀ + b); x: [..., in], w: [out_features, in], b: [out_features] or absent."""

    key: str
    out_features: int | None = None
    bias_key: str | None = None
    activation: Activation = "none"

    def weights(self) -> tuple[WeightSpec, ...]:
        specs = (WeightSpec(self.key, (self.out_features, None)),)
        return specs if self.bias_key is None else (*specs, WeightSpec(self.bias_key, (self.out_features,)))

    def emit(self, e: Emit, x: Value | None) -> Value:
        bias = None if self.bias_key is None else e.weight(self.bias_key)
        return matmul_bias_act(e.need(x), e.weight(self.key), bias, activation=self.activation)
