"""The pre-norm decoder layer that Llama, Mistral, Qwen and their kin share.

One description serves prefill, chunked prefill and decode: keys and values go to a cache, and what a token
sees follows from the lengths past_len and new_len.

    x ─┬─ rms_norm ─ q,k,v ─ [qk norm] ─ rope ─ cache ─ attention ─ o ─┬─ rms_norm ─ gated mlp ─┬─ y
       └────────────────────────────── add ──────────────────────────┴──────── add ───────────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import residual_rms_norm
from rlxflow.ops.elementwise import add
from rlxflow.ops.norm import rms_norm
from rlxflow.stages.attention import SelfAttentionSpec, SelfAttentionStage
from rlxflow.stages.ffn import GatedMlpStage
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.decoder_config import DecoderConfig


@dataclass(frozen=True)
class DecoderLayerSpec:
    """Sizes, switches and keys of one decoder layer.

    `layer_prefix` is e.g. "model.layers.0"; keys below it are HF's. `head_dim` need not be
    hidden_size / num_heads. `window` > 0 limits attention to the latest `window` positions. `scale`
    defaults to head_dim^-1/2. With `qk_norm` each head of q and k gets an RMSNorm of its own.
    """

    layer_prefix: str
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    activation: Activation = "silu"
    window: int = 0
    scale: float | None = None
    interleaved_rope: bool = False
    rope_table: str = "rope"

    @classmethod
    def hf(cls, layer_prefix: str, config: DecoderConfig) -> Self:
        """A layer with the sizes of a config; change switches with `dataclasses.replace`."""
        return cls(
            layer_prefix,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_size,
            eps=config.rms_norm_eps,
            activation=config.activation,
        )


@dataclass(frozen=True)
class DecoderLayerStage:
    """h = x + o(attn(norm(x))); y = h + mlp(norm(h)), with RMSNorm; x, y: [B, S, hidden_size]."""

    spec: DecoderLayerSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        p, h = self.spec.layer_prefix, self.spec.hidden_size
        norms = [
            WeightSpec(f"{p}.{name}.weight", (h,)) for name in ("input_layernorm", "post_attention_layernorm")
        ]
        return (norms[0], *self._attention().weights(), norms[1], *self._mlp().weights())

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        s = self.spec
        normed = rms_norm(x, e.weight(f"{s.layer_prefix}.input_layernorm.weight"), eps=s.eps)
        with e.scope("attention"):
            attended = self._attention().emit(e, normed)
        norm_weight = e.weight(f"{s.layer_prefix}.post_attention_layernorm.weight")
        h, normed = residual_rms_norm(attended, x, norm_weight, eps=s.eps)
        with e.scope("mlp"):
            out = self._mlp().emit(e, normed)
        return add(h, out)

    def _attention(self) -> SelfAttentionStage:
        s = self.spec
        return SelfAttentionStage(
            SelfAttentionSpec(
                f"{s.layer_prefix}.self_attn",
                hidden_size=s.hidden_size,
                num_heads=s.num_heads,
                num_kv_heads=s.num_kv_heads,
                head_dim=s.head_dim,
                qkv_bias=s.qkv_bias,
                out_bias=s.out_bias,
                qk_norm_eps=s.eps if s.qk_norm else None,
                window=s.window,
                scale=s.scale,
                interleaved_rope=s.interleaved_rope,
                rope_table=s.rope_table,
            )
        )

    def _mlp(self) -> GatedMlpStage:
        s = self.spec
        return GatedMlpStage.hf(
            f"{s.layer_prefix}.mlp", s.intermediate_size, s.activation, s.mlp_bias, s.hidden_size
        )
