"""The flow that vision transformers with a class token share: patches, layers, last norm."""

from __future__ import annotations

from collections.abc import Callable

from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.stage import Stage
from rlxflow.flow.vision_config import VisionConfig


def vision_flow(name: str, config: VisionConfig, layer: Callable[[int], Stage]) -> ModelFlow:
    """patches [B, S, C·P·Q] → last_hidden_state [B, S, H] and embedding [B, H], its first token.

    Patches, class token and positions (see `PatchTokensStage`), `layer(0)` … `layer(num_hidden_layers − 1)`,
    final LayerNorm, under the keys of HF's ViT and DINOv2.
    """
    from rlxflow.stages.vision import PatchTokensStage

    tokens = PatchTokensStage.hf(
        "embeddings.patch_embeddings.projection",
        "embeddings.position_embeddings",
        config,
        class_key="embeddings.cls_token",
    )
    return (
        ModelFlow(name)
        .input("patches", ("B", "S", config.patch_width))
        .stage(tokens)
        .repeat_layers(config.num_hidden_layers, layer)
        .layer_norm("layernorm.weight", "layernorm.bias", config.layer_norm_eps, config.hidden_size)
        .output("last_hidden_state")
        .cls_token_pool()
        .output("embedding")
    )
