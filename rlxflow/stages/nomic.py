"""Nomic's encoder layer: BERT's order with rotary positions, a gated MLP and no biases (arXiv 2402.01613)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.attention import SelfAttentionSpec, SelfAttentionStage
from rlxflow.stages.encoder import EncoderLayerStage
from rlxflow.stages.ffn import GatedMlpStage
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.encoder_config import RotaryEncoderConfig


@dataclass(frozen=True)
class NomicEncoderLayerSpec:
    """Sizes of one layer; keys are `{layer_prefix}.attn.Wqkv|attn.out_proj|norm1|mlp.fc11|fc12|fc2|norm2`.

    `mask_input` names an integer input [B, S], non-zero = valid; `rope_table` the tables of its positions.
    """

    layer_prefix: str
    hidden_size: int
    num_heads: int
    head_dim: int
    intermediate_size: int
    eps: float
    activation: Activation = "silu"
    mask_input: str = "attention_mask"
    rope_table: str = "rope"

    @classmethod
    def hf(cls, layer_prefix: str, config: RotaryEncoderConfig) -> Self:
        """A layer with the sizes of a config; change switches with `dataclasses.replace`."""
        return cls(
            layer_prefix,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            head_dim=config.head_size,
            intermediate_size=config.intermediate_size,
            eps=config.layer_norm_eps,
            activation=config.activation,
        )


@dataclass(frozen=True)
class NomicEncoderLayerStage:
    """h = LN₁(x + attention(x)); y = LN₂(h + fc2(fc11(h) ⊙ act(fc12(h)))); x, y: [B, S, H]; q, k rotated."""

    spec: NomicEncoderLayerSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        return self._layer().weights()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return self._layer().emit(e, x)

    def _layer(self) -> EncoderLayerStage:
        spec, p = self.spec, self.spec.layer_prefix
        attention = SelfAttentionSpec(
            f"{p}.attn",
            hidden_size=spec.hidden_size,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_heads,
            head_dim=spec.head_dim,
            rope_table=spec.rope_table,
            mask_input=spec.mask_input,
            projections=("Wqkv",),
            out_projection="out_proj",
        )
        gate, up, down = (f"{p}.mlp.{name}.weight" for name in ("fc12", "fc11", "fc2"))
        mlp = GatedMlpStage(
            gate, up, down, spec.intermediate_size, spec.activation, hidden_size=spec.hidden_size
        )
        norms = (f"{p}.norm1", f"{p}.norm2")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp, norms, spec.hidden_size, spec.eps)
