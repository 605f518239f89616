"""The double-stream blocks of FLUX's transformer, two streams in one flow. Oracle: diffusers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rlxflow import (
    AxisRopeTablesStage,
    DoubleStreamBlockSpec,
    DoubleStreamBlockStage,
    LayerCount,
    ModelFlow,
    Recipe,
    RecipeConfig,
    Size,
    stream_id,
)


class FluxDoubleStreamConfig(RecipeConfig):
    """The fields of diffusers' `FluxTransformer2DModel` that its `transformer_blocks` read."""

    # of the layers before and behind the blocks
    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("_class_name", "patch_size", "in_channels", "out_channels", "num_single_layers"),
            *("joint_attention_dim", "pooled_projection_dim", "guidance_embeds"),
        ]
    )

    num_layers: LayerCount = 19
    num_attention_heads: Size = 24
    attention_head_dim: Size = 128
    axes_dims_rope: list[Size] = Field(default=[16, 56, 56], min_length=1, max_length=8)
    qk_norm: Literal["rms_norm"] = "rms_norm"


def flow(config: FluxDoubleStreamConfig) -> ModelFlow:
    """img [B, S, H], txt [B, T, H], temb [B, H], img_ids [B, S, axes], txt_ids [B, T, axes] → img, txt."""
    heads, head_dim, axes = config.num_attention_heads, config.attention_head_dim, config.axes_dims_rope
    hidden = heads * head_dim

    def block(i: int) -> DoubleStreamBlockStage:
        return DoubleStreamBlockStage(
            DoubleStreamBlockSpec(f"transformer_blocks.{i}", heads, head_dim, mlp_size=4 * hidden)
        )

    return (
        ModelFlow("flux_double_stream")
        .input("img", ("B", "S", hidden))
        .input("txt", ("B", "T", hidden))
        .input("temb", ("B", hidden))
        .input("img_ids", ("B", "S", len(axes)), "i64")
        .input("txt_ids", ("B", "T", len(axes)), "i64")
        .bind_inputs_to_streams([("img", stream_id.IMG), ("txt", stream_id.TXT)])
        .stage(AxisRopeTablesStage("img_ids", tuple(axes), table=stream_id.IMG))
        .stage(AxisRopeTablesStage("txt_ids", tuple(axes), table=stream_id.TXT))
        .repeat_layers(config.num_layers, block)
        .load_stream(stream_id.IMG)
        .output("img")
        .load_stream(stream_id.TXT)
        .output("txt")
    )


def expected(config: FluxDoubleStreamConfig) -> dict[str, int]:
    """How many places each fusion rule finds: per block two streams of 4 + 2 linears, and two modulations."""
    blocks = config.num_layers
    return {"fuse-matmul-bias-act": 14 * blocks}


RECIPE = Recipe(
    "flux_double_stream",
    FluxDoubleStreamConfig,
    flow,
    unused=("single_transformer_blocks.*", "*embedder*", "norm_out.*", "proj_out.*"),
    expected=expected,
)
