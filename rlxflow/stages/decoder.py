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
from rlxflow.ops.attention import cached_attention
from rlxflow.ops.blocks import matmul_bias_act, residual_rms_norm
from rlxflow.ops.elementwise import add
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import reshape
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
        s = self.spec
        p, h, d = s.layer_prefix, s.hidden_size, s.head_dim
        rows = {"q": s.num_heads * d, "k": s.num_kv_heads * d, "v": s.num_kv_heads * d}
        specs = [WeightSpec(f"{p}.input_layernorm.weight", (h,))]
        for name, n in rows.items():
            specs.append(WeightSpec(f"{p}.self_attn.{name}_proj.weight", (n, h)))
            if s.qkv_bias:
                specs.append(WeightSpec(f"{p}.self_attn.{name}_proj.bias", (n,)))
        specs.append(WeightSpec(f"{p}.self_attn.o_proj.weight", (h, rows["q"])))
        if s.out_bias:
            specs.append(WeightSpec(f"{p}.self_attn.o_proj.bias", (h,)))
        if s.qk_norm:
            specs += [WeightSpec(f"{p}.self_attn.{name}_norm.weight", (d,)) for name in ("q", "k")]
        specs.append(WeightSpec(f"{p}.post_attention_layernorm.weight", (h,)))
        return (*specs, *self._mlp().weights())

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        s = self.spec
        normed = rms_norm(x, e.weight(f"{s.layer_prefix}.input_layernorm.weight"), eps=s.eps)
        with e.scope("attention"):
            attended = self._attention(e, normed)
        norm_weight = e.weight(f"{s.layer_prefix}.post_attention_layernorm.weight")
        h, normed = residual_rms_norm(attended, x, norm_weight, eps=s.eps)
        with e.scope("mlp"):
            out = self._mlp().emit(e, normed)
        return add(h, out)

    def _mlp(self) -> GatedMlpStage:
        s = self.spec
        return GatedMlpStage.hf(
            f"{s.layer_prefix}.mlp", s.intermediate_size, s.activation, s.mlp_bias, s.hidden_size
        )

    def _attention(self, e: Emit, x: Value) -> Value:
        s = self.spec
        if s.num_kv_heads <= 0 or s.num_heads % s.num_kv_heads:
            message = f"{s.num_kv_heads} key heads do not divide {s.num_heads} query heads"
            raise e.error("RLX-F022", message, "choose num_kv_heads so that it divides num_heads")
        cos, sin = e.rope_tables(s.rope_table)
        q = rope(self._heads(e, x, "q", s.num_heads), cos, sin, interleaved=s.interleaved_rope)
        k = rope(self._heads(e, x, "k", s.num_kv_heads), cos, sin, interleaved=s.interleaved_rope)
        v = self._heads(e, x, "v", s.num_kv_heads)
        keys = e.append_to_cache(f"{s.layer_prefix}.k", k)
        values = e.append_to_cache(f"{s.layer_prefix}.v", v)
        past_len, new_len = e.lengths()
        scale = s.head_dim**-0.5 if s.scale is None else s.scale
        context = cached_attention(q, keys, values, past_len, new_len, scale=scale, window=s.window)
        merged = reshape(context, shape=(x.dim(0), x.dim(1), s.num_heads * s.head_dim))
        return self._linear(e, merged, "o", s.out_bias)

    def _heads(self, e: Emit, x: Value, name: str, num_heads: int) -> Value:
        s = self.spec
        y = self._linear(e, x, name, s.qkv_bias)
        y = reshape(y, shape=(x.dim(0), x.dim(1), num_heads, s.head_dim))
        if not s.qk_norm or name == "v":
            return y
        return rms_norm(y, e.weight(f"{s.layer_prefix}.self_attn.{name}_norm.weight"), eps=s.eps)

    def _linear(self, e: Emit, x: Value, name: str, bias: bool) -> Value:
        key = f"{self.spec.layer_prefix}.self_attn.{name}_proj"
        return matmul_bias_act(x, e.weight(f"{key}.weight"), e.weight(f"{key}.bias") if bias else None)
