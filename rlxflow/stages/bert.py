"""BERT's post-norm encoder layer (arXiv 1810.04805; HF `BertLayer`), under each name it goes by."""

from __future__ import annotations

from enum import Enum

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.attention import SelfAttentionSpec, SelfAttentionStage
from rlxflow.stages.encoder import EncoderLayerStage
from rlxflow.stages.ffn import MlpStage
from rlxflow.weights.plan import WeightSpec


class BertQkvStyle(Enum):
    """How a checkpoint names the parts of a layer.

    The values: query, key, value and output projection; the norm after attention; the two linears of the
    MLP; the norm after it.
    """

    BERT = (
        *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
        *("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    )
    MPNET = (
        *("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
        *("attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    )
    DISTILBERT = (
        *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        *("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
    )

    def __repr__(self) -> str:
        return f"BertQkvStyle.{self.name}"


@dataclass(frozen=True)
class BertEncoderLayerSpec:
    """Sizes and keys of one layer; `attention_mask` names an integer input [B, S], non-zero = valid.

    `position_bias` names a stream with [num_heads, S, S] that is added to the attention scores (MPNet).
    """

    layer_prefix: str
    qkv_style: BertQkvStyle
    hidden_size: int
    num_heads: int
    intermediate_size: int | None
    eps: float
    activation: Activation = "gelu"
    attention_mask: str = "attention_mask"
    position_bias: str | None = None

    @classmethod
    def hf(
        cls,
        layer_prefix: str,
        qkv_style: BertQkvStyle,
        *,
        hidden_size: int,
        num_heads: int,
        eps: float,
        intermediate_size: int | None = None,
        activation: Activation = "gelu",
    ) -> BertEncoderLayerSpec:
        """A layer with HF's sizes; without `intermediate_size` the weight file tells it."""
        return cls(layer_prefix, qkv_style, hidden_size, num_heads, intermediate_size, eps, activation)


@dataclass(frozen=True)
class BertEncoderLayerStage:
    """h = LN(x + Attn(x)); y = LN(h + W₂·act(W₁·h + b₁) + b₂); every linear has a bias. x, y: [B, S, H]."""

    spec: BertEncoderLayerSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        return self._layer().weights()

    def emit(self, e: Emit, x: Value | None) -> Value:
        spec = self.spec
        if spec.hidden_size % spec.num_heads:
            message = f"{spec.num_heads} heads do not divide hidden_size {spec.hidden_size}"
            with e.scope("attention"):
                raise e.error("RLX-F022", message, "choose num_heads so that it divides hidden_size")
        return self._layer().emit(e, x)

    def _layer(self) -> EncoderLayerStage:
        spec, p = self.spec, self.spec.layer_prefix
        q, k, v, out, attention_norm, mlp_in, mlp_out, mlp_norm = spec.qkv_style.value
        attention = SelfAttentionSpec(
            p,
            hidden_size=spec.hidden_size,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_heads,
            head_dim=spec.hidden_size // spec.num_heads,
            qkv_bias=True,
            out_bias=True,
            rope_table=None,
            mask_input=spec.attention_mask,
            projections=(q, k, v),
            out_projection=out,
            position_bias=spec.position_bias,
        )
        mlp = MlpStage(
            *(f"{p}.{mlp_in}.weight", f"{p}.{mlp_out}.weight"),
            intermediate_size=spec.intermediate_size,
            activation=spec.activation,
            hidden_size=spec.hidden_size,
        )
        norms = (f"{p}.{attention_norm}", f"{p}.{mlp_norm}")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp, norms, spec.hidden_size, spec.eps)
