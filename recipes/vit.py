"""Vision Transformer (arXiv 2010.11929). Oracle: HF `ViTModel`."""

from __future__ import annotations

from typing import ClassVar

from rlxflow import (
    AddPositionGridStage,
    EncoderLayerStage,
    MlpStage,
    ModelFlow,
    PatchEmbedStage,
    PrependTokensStage,
    Recipe,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    VisionConfig,
)


class VitConfig(VisionConfig):
    """HF `ViTConfig`; the pooler is not part of the encoder."""

    ignored: ClassVar[frozenset[str]] = frozenset(["encoder_stride", "pooler_output_size", "pooler_act"])

    intermediate_size: Size
    qkv_bias: bool = True


def flow(config: VitConfig) -> ModelFlow:
    """pixel_values [B, C, H0, W0] → last_hidden_state [B, 1 + N, H] and embedding [B, H], its first token."""
    hidden, eps = config.hidden_size, config.layer_norm_eps

    def layer(i: int) -> EncoderLayerStage:
        p = f"encoder.layer.{i}"
        attention = SelfAttentionSpec(
            f"{p}.attention",
            hidden_size=hidden,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_attention_heads,
            head_dim=config.head_size,
            qkv_bias=config.qkv_bias,
            out_bias=True,
            rope_table=None,
            cached=False,
            projections=("attention.query", "attention.key", "attention.value"),
            out_projection="output.dense",
        )
        mlp = MlpStage.hf_bert(p, config.intermediate_size, config.activation, hidden)
        norms = (f"{p}.layernorm_before", f"{p}.layernorm_after")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp, norms, hidden, eps, pre_norm=True)

    patches = "embeddings.patch_embeddings.projection"
    return (
        ModelFlow("vit")
        .input("pixel_values", ("B", config.num_channels, *config.images))
        .stage(PatchEmbedStage(patches, hidden, config.num_channels, config.patch, config.grid))
        .stage(PrependTokensStage("embeddings.cls_token", hidden))
        .stage(AddPositionGridStage("embeddings.position_embeddings", hidden, config.table_grid, config.grid))
        .repeat_layers(config.num_hidden_layers, layer)
        .layer_norm("layernorm.weight", "layernorm.bias", eps, hidden)
        .output("last_hidden_state")
        .cls_token_pool()
        .output("embedding")
    )


def expected(config: VitConfig) -> dict[str, int]:
    """How many places each fusion rule finds: in the layers, the patches and the last norm."""
    layers = config.num_hidden_layers
    return {
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": layers,
        "fuse-matmul-bias-act": (6 if config.qkv_bias else 3) * layers + 1,
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
