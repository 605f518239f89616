"""Vision layers under the names of the original checkpoints."""

from __future__ import annotations

import math
from typing import Any

import goldens
import numpy as np

import rlxflow
from rlxflow import EncoderLayerStage, ModelFlow, dinov2_layer_fused, nomic_vision_layer_fused

Array = np.ndarray[Any, np.dtype[Any]]


def layer(stage: EncoderLayerStage, weights: dict[str, Array], x: Array) -> Array:
    flow = ModelFlow("layer").input("x", ("B", "N", x.shape[-1])).stage(stage).output("y")
    return flow.build(rlxflow.MapWeights(weights)).compile()({"x": x})["y"]


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {key: rng.normal(0, 0.4, shape).astype(np.float32) for key, shape in shapes.items()}


def test_dinov2_layers_under_their_first_names() -> None:
    """The names of the original code in place of Hugging Face's: the same layer."""
    golden = goldens.vision_case("dinov2", "plain")
    config: Any = rlxflow.find_recipe("dinov2").config(golden.config, "config.json")
    flow = rlxflow.find_recipe("dinov2").flow(config)
    (hf,) = (s for s in flow.stages if getattr(s, "name", "") == "layers.0")
    p, q = "encoder.layer.0.", "blocks.0."
    given = {k.removeprefix(p): v for k, v in golden.weights.items() if k.startswith(p)}
    weights = {}
    for kind in ("weight", "bias"):
        parts = [given[f"attention.attention.{name}.{kind}"] for name in ("query", "key", "value")]
        weights[f"{q}attn.qkv.{kind}"] = np.concatenate(parts)
        weights[f"{q}attn.proj.{kind}"] = given[f"attention.output.dense.{kind}"]
        for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            weights[f"{q}{name}.{kind}"] = given[f"{name}.{kind}"]
    for i in (1, 2):
        weights[f"{q}ls{i}.gamma"] = given[f"layer_scale{i}.lambda1"]
    x = np.random.default_rng(0).standard_normal((2, 5, config.hidden_size)).astype(np.float32)
    stage = dinov2_layer_fused(0, config.hidden_size, config.num_attention_heads, config.layer_norm_eps)
    expected = layer(hf, golden.weights, x)  # type: ignore[arg-type]
    assert goldens.error(layer(stage, weights, x), expected) <= 1e-6


def test_nomic_vision_layers_by_formula() -> None:
    h, n, heads, eps = 8, 12, 2, 1e-6
    p = "layers.3"
    shapes: dict[str, tuple[int, ...]] = {
        f"{p}.attn.Wqkv.weight": (3 * h, h),
        f"{p}.attn.out_proj.weight": (h, h),
        f"{p}.mlp.fc11.weight": (n, h),
        f"{p}.mlp.fc12.weight": (n, h),
        f"{p}.mlp.fc2.weight": (h, n),
        f"{p}.norm1.weight": (h,),
        f"{p}.norm2.weight": (h,),
        f"{p}.mlp.norm.weight": (n,),
    }
    shapes |= {key.replace(".weight", ".bias"): shape[:1] for key, shape in shapes.items()}
    w = draw(shapes)
    x = np.random.default_rng(1).standard_normal((1, 4, h)).astype(np.float32)

    def linear(y: Array, name: str) -> Array:
        return y @ w[f"{p}.{name}.weight"].T.astype(np.float64) + w[f"{p}.{name}.bias"]

    def norm(y: Array, name: str) -> Array:
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + eps)
        return y * w[f"{p}.{name}.weight"] + w[f"{p}.{name}.bias"]

    y = x.astype(np.float64)
    q, k, v = np.split(linear(norm(y, "norm1"), "attn.Wqkv"), 3, -1)
    contexts = []
    for i in range(heads):
        part = slice(i * h // heads, (i + 1) * h // heads)
        scores = np.exp(q[..., part] @ k[..., part].transpose(0, 2, 1) / math.sqrt(h // heads))
        contexts.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    y = y + linear(np.concatenate(contexts, -1), "attn.out_proj")
    inner = norm(y, "norm2")
    gate = linear(inner, "mlp.fc12")
    gated = linear(inner, "mlp.fc11") * gate / (1 + np.exp(-gate))
    y = y + linear(norm(gated, "mlp.norm"), "mlp.fc2")
    assert goldens.error(layer(nomic_vision_layer_fused(3, h, heads, eps), w, x), y) <= 1e-5
