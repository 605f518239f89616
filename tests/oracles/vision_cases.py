"""The tiny random vision encoders: per `model_type`, config.json contents and the shape of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_cases import ABSENT, Config, _without_absent


@dataclass(frozen=True)
class ImageCase:
    """One model and a batch of images [B, C, height, width]."""

    name: str
    config: Config
    shape: tuple[int, int, int, int] = (2, 3, 24, 24)


def vit(**fields: Any) -> Config:
    base = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 24,
        "patch_size": 8,
        "layer_norm_eps": 0.05,
        "hidden_act": "gelu",
    }
    return _without_absent({**base, **fields})


def dinov2(**fields: Any) -> Config:
    names = {"model_type": "dinov2", "architectures": ["Dinov2Model"], "intermediate_size": ABSENT}
    return vit(
        **{**names, "mlp_ratio": 2, "num_hidden_layers": 7, "image_size": 28, "patch_size": 7, **fields}
    )


def siglip(**fields: Any) -> Config:
    names = {"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"]}
    return vit(**{**names, "hidden_act": "gelu_pytorch_tanh", **fields})


SWIGLU = {"use_swiglu_ffn": True, "mlp_ratio": 3}

CASES: dict[str, list[ImageCase]] = {
    "vit": [
        ImageCase("plain", vit()),
        ImageCase("no_qkv_bias", vit(qkv_bias=False, num_attention_heads=6), (1, 3, 24, 24)),
        ImageCase("wide_image", vit(image_size=[16, 24], hidden_act="relu"), (2, 3, 16, 24)),
        ImageCase("wide_patch", vit(patch_size=[4, 12], hidden_act="silu", intermediate_size=61)),
        ImageCase("one_channel", vit(num_channels=1, hidden_act="gelu_new"), (3, 1, 24, 24)),
        ImageCase("part_of_a_patch_left", vit(image_size=21, num_hidden_layers=3), (1, 3, 21, 21)),
        ImageCase("one_head_large_eps", vit(num_attention_heads=1, hidden_size=33, layer_norm_eps=0.3)),
        ImageCase(
            "usual_eps", vit(layer_norm_eps=1e-12, hidden_size=64, hidden_dropout_prob=0.0, encoder_stride=8)
        ),
    ],
    "dinov2": [
        ImageCase("plain", dinov2(), (2, 3, 28, 28)),
        ImageCase("smaller_images", dinov2(), (2, 3, 21, 21)),
        ImageCase("wider_images", dinov2(hidden_act="relu"), (1, 3, 14, 49)),
        ImageCase("larger_images_swiglu", dinov2(**SWIGLU), (1, 3, 49, 42)),
        ImageCase("swiglu", dinov2(**SWIGLU, num_attention_heads=6), (2, 3, 28, 28)),
        ImageCase("swiglu_no_qkv_bias", dinov2(**SWIGLU, qkv_bias=False, hidden_size=40), (1, 3, 28, 28)),
        ImageCase("no_qkv_bias_silu", dinov2(qkv_bias=False, hidden_act="silu", mlp_ratio=3), (2, 3, 28, 28)),
        ImageCase("part_of_a_patch_left", dinov2(num_hidden_layers=5, hidden_act="gelu_new"), (1, 3, 33, 30)),
        ImageCase("turned_images", dinov2(), (1, 3, 14, 56)),
        ImageCase(
            "usual_eps",
            dinov2(
                layer_norm_eps=1e-6,
                hidden_size=64,
                layerscale_value=1.0,
                drop_path_rate=0.0,
                use_mask_token=True,
            ),
            (2, 3, 28, 28),
        ),
    ],
    "siglip_vision_model": [
        ImageCase("plain", siglip()),
        ImageCase("gelu", siglip(hidden_act="gelu", num_attention_heads=6), (1, 3, 24, 24)),
        ImageCase("no_head", siglip(vision_use_head=False, hidden_act="relu"), (3, 3, 24, 24)),
        ImageCase("three_layers", siglip(num_hidden_layers=3, intermediate_size=61), (1, 3, 24, 24)),
        ImageCase("one_channel_silu", siglip(num_channels=1, hidden_act="silu"), (2, 1, 24, 24)),
        ImageCase("part_of_a_patch_left", siglip(image_size=29, num_attention_heads=2), (1, 3, 29, 29)),
        ImageCase("one_head_large_eps", siglip(num_attention_heads=1, hidden_size=33, layer_norm_eps=0.3)),
        ImageCase("usual_eps", siglip(layer_norm_eps=1e-6, hidden_size=64, attention_dropout=0.0)),
    ],
}
