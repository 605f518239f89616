"""The decoder layer that Llama, Mistral, Qwen, Gemma, OLMo, Granite and their kin share.

One description serves prefill, chunked prefill and decode: keys and values go to a cache, and what a token
sees follows from the lengths past_len and new_len.

    x ─┬─ [norm] ─ q,k,v ─ [qk norm] ─ [rope] ─ cache ─ attention ─ o ─ [norm] ─┬─ h
       └──────────────────────────────── add ───────────────────────────────────┘
    h ─┬─ [norm] ─ gated mlp ─ [norm] ─┬─ y
       └───────────── add ─────────────┘
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeAlias

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import residual_rms_norm
from rlxflow.ops.elementwise import add
from rlxflow.ops.norm import rms_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.attention import SelfAttentionSpec, SelfAttentionStage
from rlxflow.stages.ffn import GatedMlpStage
from rlxflow.stages.scale import scaled
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.decoder_config import DecoderConfig


Norms: TypeAlias = tuple[str | None, str | None, str | None, str | None]
PRE_NORMS: Norms = ("input_layernorm", None, "post_attention_layernorm", None)


@dataclass(frozen=True)
class DecoderLayerSpec:
    """Sizes, switches and keys of one decoder layer.

    `layer_prefix` is e.g. "model.layers.0"; keys below it are HF's. `head_dim` need not be
    hidden_size / num_heads. `norms` names the RMSNorms before and after attention and before and after the
    feed-forward network, None where there is none: Llama has the first and third, Gemma 2 all, OLMo 2 the
    second and fourth. `norm_offset`: norms multiply by 1 + w. `residual_multiplier` scales what a block adds.
    `joined`: q, k and v are the rows of one weight `qkv_proj`, gate and up those of `gate_up_proj` (Phi-3).
    `qk_norm`: RMSNorm of each head of q and k, or with `qk_norm_whole` of all heads together. `window`,
    `scale`, `softcap` and `rope_table` as in `SelfAttentionSpec`.
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
    joined: bool = False
    qk_norm: bool = False
    qk_norm_whole: bool = False
    norms: Norms = PRE_NORMS
    norm_offset: bool = False
    residual_multiplier: float = 1.0
    activation: Activation = "silu"
    window: int = 0
    scale: float | None = None
    softcap: float = 0.0
    interleaved_rope: bool = False
    rope_table: str | None = "rope"

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
    """h = x + r · n₂(attn(n₁(x))); y = h + r · n₄(mlp(n₃(h))); x, y: [B, S, hidden_size].

    n₁ … n₄ are the RMSNorms of `DecoderLayerSpec.norms`, r is `residual_multiplier`.
    """

    spec: DecoderLayerSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        p, h = self.spec.layer_prefix, self.spec.hidden_size
        before, after, *around_mlp = (
            (WeightSpec(f"{p}.{name}.weight", (h,)),) if name else () for name in self.spec.norms
        )
        attention, mlp = self._attention().weights(), self._mlp().weights()
        return (*before, *attention, *after, *around_mlp[0], *mlp, *around_mlp[1])

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        s = self.spec
        before_attention, after_attention, before_mlp, after_mlp = s.norms
        normed = self._norm(e, before_attention, x)
        with e.scope("attention"):
            attended = self._attention().emit(e, normed)
        attended = scaled(self._norm(e, after_attention, attended), s.residual_multiplier)
        if before_mlp is None:
            h = normed = add(attended, x)
        else:
            weight = e.weight(f"{s.layer_prefix}.{before_mlp}.weight")
            h, normed = residual_rms_norm(attended, x, weight, eps=s.eps, unit_offset=s.norm_offset)
        with e.scope("mlp"):
            out = self._mlp().emit(e, normed)
        return add(h, scaled(self._norm(e, after_mlp, out), s.residual_multiplier))

    def _norm(self, e: Emit, name: str | None, x: Value) -> Value:
        if name is None:
            return x
        s = self.spec
        return rms_norm(x, e.weight(f"{s.layer_prefix}.{name}.weight"), eps=s.eps, unit_offset=s.norm_offset)

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
                qk_norm_offset=s.norm_offset,
                qk_norm_whole=s.qk_norm_whole,
                window=s.window,
                scale=s.scale,
                softcap=s.softcap,
                interleaved_rope=s.interleaved_rope,
                rope_table=s.rope_table,
                projections=("qkv_proj",) if s.joined else ("q_proj", "k_proj", "v_proj"),
            )
        )

    def _mlp(self) -> GatedMlpStage:
        s = self.spec
        mlp = GatedMlpStage.hf(
            f"{s.layer_prefix}.mlp", s.intermediate_size, s.activation, s.mlp_bias, s.hidden_size
        )
        if not s.joined:
            return mlp
        return replace(mlp, gate_key=f"{s.layer_prefix}.mlp.gate_up_proj.weight", up_key=None)
