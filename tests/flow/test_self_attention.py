"""Self attention as a stage: composed by hand it is the decoder layer; masked, it is the formula."""

from __future__ import annotations

import numpy as np

from rlxflow import (
    DecoderLayerSpec,
    DecoderLayerStage,
    GatedMlpStage,
    LayerStack,
    MapWeights,
    ModelFlow,
    RopeTablesStage,
    SelfAttentionSpec,
)
from rlxflow.flow.lowering import lower
from rlxflow.ir.builder import rebuild


def decoder(layer: object) -> ModelFlow:
    flow = ModelFlow("d").decoder_inputs().token_embed(50, 16).rope_tables(RopeTablesStage(8, 10000.0))
    return flow.stage(layer).final_norm(1e-6, 16).output("y")  # type: ignore[arg-type]


def test_a_layer_composed_by_hand_is_the_decoder_layer() -> None:
    whole = DecoderLayerStage(DecoderLayerSpec("l", 16, 24, 4, 2, 8, 1e-6, qkv_bias=True, qk_norm=True))
    attention = SelfAttentionSpec("l.self_attn", 16, 4, 2, 8, qkv_bias=True, qk_norm_eps=1e-6)
    composed = (
        LayerStack("layer")
        .residual_save()
        .rms_norm("l.input_layernorm.weight", 1e-6, hidden_size=16)
        .self_attention(attention)
        .residual_add()
        .residual_save()
        .rms_norm("l.post_attention_layernorm.weight", 1e-6, hidden_size=16)
        .stage(GatedMlpStage.hf("l.mlp", 24, hidden_size=16))
        .residual_add()
    )
    graphs = [lower(decoder(layer)).graph for layer in (whole, composed)]
    assert all(graphs)
    one, other = (rebuild(g, lambda op: op.decompose_fn is not None).digest for g in graphs if g is not None)
    assert one == other


def test_with_a_mask_it_is_the_formula_in_both_directions() -> None:
    rng = np.random.default_rng(3)
    weights = {f"a.{n}_proj.weight": rng.normal(size=(6, 6)).astype(np.float32) for n in "qkvo"}
    spec = SelfAttentionSpec("a", 6, 2, 2, 3, rope_table=None, mask_input="mask")
    flow = ModelFlow("e").input("x", ("B", "S", 6)).input("mask", ("B", "S"), "i64").self_attention(spec)
    x = rng.normal(size=(1, 5, 6)).astype(np.float32)
    mask = np.array([[1, 1, 0, 1, 1]])
    found = flow.output("y").build(MapWeights(weights)).compile()({"x": x, "mask": mask})["y"][0]
    q, k, v = (x[0].astype(float) @ weights[f"a.{n}_proj.weight"].T for n in "qkv")
    heads = []
    for h in (slice(0, 3), slice(3, 6)):
        scores = np.where(mask == 1, q[:, h] @ k[:, h].T / np.sqrt(3), -np.inf)
        p = np.exp(scores - scores.max(1, keepdims=True))
        heads.append(p / p.sum(1, keepdims=True) @ v[:, h])
    expected = np.concatenate(heads, 1) @ weights["a.o_proj.weight"].T
    assert np.abs(found - expected).max() <= 1e-5
