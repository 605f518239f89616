"""Vision Transformer (arXiv 2010.11929). Oracle: HF `ViTModel`."""

from __future__ import annotations

from typing import ClassVar

from rlxflow import (
    EncoderLayerStage,
    MlpStage,
    ModelFlow,
    Recipe,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    VisionConfig,
    vision_flow,
)


class VitConfig(VisionConfig):
    """HF `ViTConfig`; the pooler is not part of the encoder."""

    ignored: ClassVar[frozenset[str]] = frozenset(["encoder_stride", "pooler_output_size", "pooler_act"])

    intermediate_size: Size
    qkv_bias: bool = True


def flow(config: VitConfig) -> ModelFlow:
    """patches [B, S, C·P·Q] → last_hidden_state [B, S, H] and embedding [B, H], its first token."""
    hidden, eps = config.hidden_size, config.layer_norm_eps

    def layer(i: int) -> EncoderLayerStage:
        p = f"encoder.layer.{i}"
        names = ("attention.query", "attention.key", "attention.value", "output.dense")
        attention = SelfAttentionSpec.encoder(f"{p}.attention", config, names, qkv_bias=config.qkv_bias)
        mlp = MlpStage.hf_bert(p, config.intermediate_size, config.activation, hidden)
        norms = (f"{p}.layernorm_before", f"{p}.layernorm_after")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp, norms, hidden, eps, pre_norm=True)

    return vision_flow("vit", config, layer)


def expected(config: VitConfig) -> dict[str, int]:
    """How many places each fusion rule finds: in the layers, the patches and the last norm."""
    layers = config.num_hidden_layers
    return {
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": layers,
        "fuse-matmul-bias-act": (6 if config.qkv_bias else 3) * layers,
        "fuse-residual-ln": 1,
    }


RECIPE = Recipe(
    "vit",
    VitConfig,
    flow,
    prefixes=("", "vit."),
    unused=("*pooler.*", "*classifier.*", "*mask_token", "*decoder.*"),
    expected=expected,
)
