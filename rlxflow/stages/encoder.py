"""The encoder layer that BERT, ModernBERT, ViT and their kin share, made of an attention and an MLP."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.flow.stage import Stage
from rlxflow.ir.values import Value
from rlxflow.ops.blocks import residual_layer_norm
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.norm import layer_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.attention import SelfAttentionStage
from rlxflow.stages.norm import old_norm_names
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class EncoderLayerStage:
    """Attention and MLP with residuals and LayerNorms; x, y: [B, S, hidden_size].

    post-norm (BERT)            h = LN₁(x + attention(x));           y = LN₂(h + mlp(h))
    `pre_norm` (ViT)            h = x + s₁ ⊙ attention(LN₁(x));      y = h + s₂ ⊙ mlp(LN₂(h))

    `norms` are the keys of LN₁ and LN₂ without `.weight` and `.bias`; None stands for no norm (ModernBERT's
    first layer), `norm_bias` says whether they have a bias. `scales` are the keys of s₁ and s₂, [hidden_size]
    (LayerScale, arXiv 2103.17239; pre-norm only).
    """

    attention: SelfAttentionStage
    mlp: Stage
    norms: tuple[str | None, str]
    hidden_size: int
    eps: float
    pre_norm: bool = False
    norm_bias: bool = True
    scales: tuple[str, str] | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        kinds = ("weight", "bias") if self.norm_bias else ("weight",)
        keys = [f"{norm}.{kind}" for norm in self.norms if norm is not None for kind in kinds]
        vectors = [WeightSpec(key, (self.hidden_size,), old_norm_names(key)) for key in keys]
        vectors += [WeightSpec(key, (self.hidden_size,)) for key in self.scales or ()]
        return (*self.attention.weights(), *self.mlp.weights(), *vectors)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        for i, (part, label) in enumerate(((self.attention, "attention"), (self.mlp, "mlp"))):
            weight, bias = self._norm(e, i)
            normed = x if not self.pre_norm or weight is None else layer_norm(x, weight, bias, eps=self.eps)
            with e.scope(label):
                y = e.need(part.emit(e, normed))
            if self.scales is not None:
                y = mul(y, e.weight(self.scales[i]))
            if self.pre_norm or weight is None:
                x = add(x, y)
            else:
                x = residual_layer_norm(y, x, weight, bias, eps=self.eps)
        return x

    def _norm(self, e: Emit, i: int) -> tuple[Value | None, Value | None]:
        key = self.norms[i]
        if key is None:
            return None, None
        return e.weight(f"{key}.weight"), e.weight(f"{key}.bias") if self.norm_bias else None
