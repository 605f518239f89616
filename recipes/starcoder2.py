"""StarCoder 2: LayerNorms, and an MLP without gate. Oracle: HF `Starcoder2ForCausalLM`."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlxflow import (
    DecoderConfig,
    EncoderLayerStage,
    LayerNormStage,
    MlpStage,
    ModelFlow,
    Recipe,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    decoder_flow,
)


class Starcoder2Config(DecoderConfig):
    """HF `Starcoder2Config`; every published model has biases."""

    default_theta: ClassVar[float | None] = 10000.0
    renamed: ClassVar[dict[str, str]] = {"norm_epsilon": "rms_norm_eps"}

    rms_norm_eps: float = 1e-5
    num_key_value_heads: Size | None = 2
    hidden_act: str = "gelu_pytorch_tanh"
    use_bias: Literal[True] = True
    sliding_window: Size | None = None
    tie_word_embeddings: bool = True


def flow(config: Starcoder2Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""
    hidden, eps = config.hidden_size, config.rms_norm_eps

    def layer(i: int) -> EncoderLayerStage:
        p = f"model.layers.{i}"
        attention = SelfAttentionSpec(
            f"{p}.self_attn",
            hidden,
            config.num_attention_heads,
            config.num_kv_heads,
            config.head_size,
            qkv_bias=True,
            out_bias=True,
            window=config.sliding_window or 0,
        )
        inner, activation = config.intermediate_size, config.activation
        mlp = MlpStage(f"{p}.mlp.c_fc.weight", f"{p}.mlp.c_proj.weight", inner, activation, hidden)
        norms = (f"{p}.input_layernorm", f"{p}.post_attention_layernorm")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp, norms, hidden, eps, pre_norm=True)

    norm = LayerNormStage("model.norm.weight", "model.norm.bias", eps, hidden)
    return decoder_flow("starcoder2", config, layer, final_norm=norm)


def expected(config: Starcoder2Config) -> dict[str, int]:
    """How many places each fusion rule finds: only the last norm's sum has no other reader."""
    layers = config.num_hidden_layers
    return {
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": layers,
        "fuse-matmul-bias-act": 6 * layers,
        "fuse-residual-ln": 1,
    }


RECIPE = Recipe("starcoder2", Starcoder2Config, flow, unused=("*.rotary_emb.inv_freq",), expected=expected)
