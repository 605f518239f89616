"""Normalisations."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class RmsNormStage:
    """y = x / √(mean(x²) + eps) · w, or · (1 + w) with `unit_offset`; x: [..., H], w: [H]."""

    key: str
    eps: float
    unit_offset: bool = False
    hidden_size: int | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.hidden_size,)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        return rms_norm(e.need(x), e.weight(self.key), eps=self.eps, unit_offset=self.unit_offset)


@dataclass(frozen=True)
class LayerNormStage:
    """y = (x − mean) / √(variance + eps) · w + b; x: [..., H]; w, b: [H]; b may be absent."""

    key: str
    bias_key: str | None
    eps: float
    hidden_size: int | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        keys = [self.key] if self.bias_key is None else [self.key, self.bias_key]
        return tuple(WeightSpec(k, (self.hidden_size,), old_norm_names(k)) for k in keys)

    def emit(self, e: Emit, x: Value | None) -> Value:
        bias = None if self.bias_key is None else e.weight(self.bias_key)
        return layer_norm(e.need(x), e.weight(self.key), bias, eps=self.eps)


def old_norm_names(key: str) -> tuple[str, ...]:
    """Checkpoints converted from TensorFlow call a LayerNorm's weight gamma and its bias beta."""
    if "LayerNorm." not in key:
        return ()
    return (key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),)
