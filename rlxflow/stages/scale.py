"""Multiplication by a number that the config gives."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import div, mul, tanh
from rlxflow.ops.leaves import full
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class EmbedScaleStage:
    """y = factor · x: Gemma's √hidden_size or Granite's multiplier, behind the embedding."""

    factor: float

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return scaled(e.need(x), self.factor)


def scaled(x: Value, factor: float) -> Value:
    """factor · x; x itself where the factor is 1."""
    return x if factor == 1 else mul(x, full(value=float(factor), dtype=x.dtype, shape=()))


def softcapped(x: Value, cap: float) -> Value:
    """cap · tanh(x / cap), which stays within ±cap (Gemma 2, arXiv 2408.00118); x itself where cap is 0."""
    if not cap:
        return x
    return scaled(tanh(div(x, full(value=float(cap), dtype=x.dtype, shape=()))), cap)
