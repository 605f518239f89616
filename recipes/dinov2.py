"""DINOv2 (arXiv 2304.07193), with both of its MLPs. Oracle: HF `Dinov2Model`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rlxflow import (
    EncoderLayerStage,
    GatedMlpStage,
    MlpStage,
    ModelFlow,
    Recipe,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    VisionConfig,
    vision_flow,
)


class Dinov2Config(VisionConfig):
    """HF `Dinov2Config`; images may have another size than the position table."""

    resizes: ClassVar[bool] = True
    # how the model was initialised and trained, and what it gives as a backbone
    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("layerscale_value", "drop_path_rate", "use_mask_token", "apply_layernorm"),
            *("reshape_hidden_states", "out_features", "out_indices", "stage_names"),
        ]
    )

    patch_size: Size | list[Size] = 14
    layer_norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    mlp_ratio: float = Field(default=4, gt=0, le=64)
    use_swiglu_ffn: bool = False
    qkv_bias: bool = True

    @property
    def mlp_size(self) -> int:
        """Two thirds in the gated MLP, which has a third weight, and a multiple of 8."""
        size = int(self.hidden_size * self.mlp_ratio)
        return (int(size * 2 / 3) + 7) // 8 * 8 if self.use_swiglu_ffn else size


def flow(config: Dinov2Config) -> ModelFlow:
    """patches [B, S, C·P·Q] → last_hidden_state [B, S, H] and embedding [B, H], its first token."""
    hidden, eps = config.hidden_size, config.layer_norm_eps

    def layer(i: int) -> EncoderLayerStage:
        p = f"encoder.layer.{i}"
        names = ("attention.query", "attention.key", "attention.value", "output.dense")
        attention = SelfAttentionSpec.encoder(f"{p}.attention", config, names, qkv_bias=config.qkv_bias)
        ins, out = ("weights_in", "weights_out") if config.use_swiglu_ffn else ("fc1", "fc2")
        keys, size = (f"{p}.mlp.{ins}.weight", f"{p}.mlp.{out}.weight"), config.mlp_size
        mlp = (
            GatedMlpStage(keys[0], None, keys[1], size, "silu", bias=True, hidden_size=hidden)
            if config.use_swiglu_ffn
            else MlpStage(*keys, size, config.activation, hidden)
        )
        norms = (f"{p}.norm1", f"{p}.norm2")
        scales = (f"{p}.layer_scale1.lambda1", f"{p}.layer_scale2.lambda1")
        return EncoderLayerStage(
            SelfAttentionStage(attention), mlp, norms, hidden, eps, pre_norm=True, scales=scales
        )

    return vision_flow("dinov2", config, layer)


def expected(config: Dinov2Config) -> dict[str, int]:
    """How many places each fusion rule finds: in the layers, the patches and the last norm."""
    layers, gated = config.num_hidden_layers, config.use_swiglu_ffn
    return {
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": (2 if gated else 1) * layers,
        "fused-gate-up": layers if gated else 0,
        "fuse-matmul-bias-act": (3 * config.qkv_bias + 1 + (3 if gated else 2)) * layers,
        "fuse-residual-ln": 1,
    }


RECIPE = Recipe(
    "dinov2",
    Dinov2Config,
    flow,
    prefixes=("", "dinov2."),
    unused=("*mask_token", "*classifier.*"),
    expected=expected,
)
