"""Cohere's decoder layer: attention and feed-forward side by side.

x ─┬─ layer_norm ─┬─ attention ─┐
   │              └─ gated mlp ─┼─ y
   └─────────────────────────── add
"""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add
from rlxflow.ops.norm import layer_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.decoder import DecoderLayerStage
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class CohereDecoderStage(DecoderLayerStage):
    """y = x + attn(n) + mlp(n) with n = LayerNorm(x), which has no bias; x, y: [B, S, hidden_size].

    HF `Cohere2DecoderLayer`. Of `spec` it takes all but `norms`, `norm_offset` and `residual_multiplier`; the
    norm's key is `{layer_prefix}.input_layernorm.weight`.
    """

    def weights(self) -> tuple[WeightSpec, ...]:
        norm = WeightSpec(self._norm_key, (self.spec.hidden_size,))
        return (norm, *self._attention().weights(), *self._mlp().weights())

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        normed = layer_norm(x, e.weight(self._norm_key), eps=self.spec.eps)
        with e.scope("attention"):
            attended = self._attention().emit(e, normed)
        with e.scope("mlp"):
            out = self._mlp().emit(e, normed)
        return add(add(x, attended), out)

    @property
    def _norm_key(self) -> str:
        return f"{self.spec.layer_prefix}.input_layernorm.weight"
