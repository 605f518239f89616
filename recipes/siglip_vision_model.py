"""SigLIP's vision tower (arXiv 2303.15343). Oracle: HF `SiglipVisionModel`."""

from __future__ import annotations

from typing import ClassVar

from rlxflow import (
    AttentionPoolStage,
    EncoderLayerStage,
    Eps,
    MlpStage,
    ModelFlow,
    PatchTokensStage,
    Recipe,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    VisionConfig,
)


class SiglipVisionConfig(VisionConfig):
    """HF `SiglipVisionConfig`; images and patches are square there."""

    ignored: ClassVar[frozenset[str]] = frozenset(["initializer_factor"])
    class_token: ClassVar[bool] = False

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Size = 12
    num_attention_heads: Size = 12
    image_size: Size = 224
    patch_size: Size = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Eps = 1e-6
    vision_use_head: bool = True


def flow(config: SiglipVisionConfig) -> ModelFlow:
    """patches [B, S, C·P·Q] → last_hidden_state [B, S, H]; with the head embedding [B, H]."""
    hidden, eps, heads = config.hidden_size, config.layer_norm_eps, config.num_attention_heads

    def mlp(prefix: str) -> MlpStage:
        keys = (f"{prefix}.mlp.fc1.weight", f"{prefix}.mlp.fc2.weight")
        return MlpStage(*keys, config.intermediate_size, config.activation, hidden)

    def layer(i: int) -> EncoderLayerStage:
        p = f"encoder.layers.{i}"
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        attention = SelfAttentionSpec.encoder(f"{p}.self_attn", config, names)
        norms = (f"{p}.layer_norm1", f"{p}.layer_norm2")
        return EncoderLayerStage(SelfAttentionStage(attention), mlp(p), norms, hidden, eps, pre_norm=True)

    tokens = PatchTokensStage.hf(
        "embeddings.patch_embedding", "embeddings.position_embedding.weight", config, flat=True
    )
    flow = (
        ModelFlow("siglip_vision_model")
        .input("patches", ("B", "S", config.patch_width))
        .stage(tokens)
        .repeat_layers(config.num_hidden_layers, layer)
        .layer_norm("post_layernorm.weight", "post_layernorm.bias", eps, hidden)
        .output("last_hidden_state")
    )
    head = AttentionPoolStage("head", hidden, heads, eps, mlp("head"))
    return flow.when(config.vision_use_head, lambda flow: flow.stage(head).output("embedding"))


def expected(config: SiglipVisionConfig) -> dict[str, int]:
    """How many places each fusion rule finds: in the layers, the patches and the last norm, and the head."""
    layers, head = config.num_hidden_layers, config.vision_use_head
    return {
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": layers,
        "fuse-matmul-bias-act": 6 * layers + 6 * head,
        "fuse-residual-ln": 1,
    }


RECIPE = Recipe(
    "siglip_vision_model",
    SiglipVisionConfig,
    flow,
    prefixes=("", "vision_model."),
    unused=("*head.*",),
    expected=expected,
)
