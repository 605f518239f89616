"""Side outputs: hidden states and new keys and values of layers as named outputs."""

from __future__ import annotations

import flow_samples as samples
import numpy as np

from rlxflow import (
    AttentionStage,
    BlockAsLayer,
    FfnStage,
    GatedMlpStage,
    KvCacheContract,
    LayerStage,
    ModelFlow,
    NormStage,
    RmsNormStage,
    SelfAttentionSpec,
    SelfAttentionStage,
    SideOutputs,
    SideOutputsStage,
    StageArtifacts,
)
from rlxflow.ir.dims import UNKNOWN, shape

CALL = {
    "input_ids": np.array([[3, 1, 4, 1]]),
    "past_len": np.zeros(1, np.int32),
    "new_len": np.array([4], np.int32),
}


def tapped() -> ModelFlow:
    flow = samples.decoding()
    for i in range(2):
        taps = SideOutputs(hidden=f"hidden.{i}", kv=True)
        flow = flow.stage(SideOutputsStage(samples.layer(i), taps))
    return flow.final_norm(1e-6, 12).output("y")


def test_taps_are_outputs_keys_before_values() -> None:
    model = tapped().build(samples.FakeWeights(tapped()))
    kv = [f"layers.{i}.self_attn.{what}" for i in range(2) for what in "kv"]
    assert list(model.graph.outputs) == ["hidden.0", *kv[:2], "hidden.1", *kv[2:], "y"]


def test_taps_hold_what_the_cache_holds() -> None:
    program = tapped().build(samples.FakeWeights(tapped())).compile()
    state = program.new_state(1, 8)
    result = program(CALL, state)
    for name in ("layers.0.self_attn.k", "layers.1.self_attn.v"):
        assert result[name].shape == (1, 4, 2, 4)
        assert np.array_equal(result[name], state.arrays[name][:, :, :4].swapaxes(1, 2))


def test_taps_change_nothing_and_cost_nothing_where_they_are_not_wanted() -> None:
    weights = samples.FakeWeights(tapped())
    plain = samples.decoding().append(samples.layer(i) for i in range(2)).final_norm(1e-6, 12).output("y")
    one, other = plain.build(weights).compile(), tapped().build(weights).compile(outputs=["y"])
    assert len(one.graph.nodes) == len(other.graph.nodes)
    results = [p(CALL, p.new_state(1, 8))["y"] for p in (one, other)]
    assert np.array_equal(*results)


def test_stages_say_what_they_are() -> None:
    spec = SelfAttentionSpec("a", hidden_size=12, num_heads=4, num_kv_heads=2, head_dim=4)
    attention: AttentionStage = SelfAttentionStage(spec)
    ffn: FfnStage = GatedMlpStage.hf("mlp", 20)
    norm: NormStage = RmsNormStage("n", 1e-6)
    assert isinstance(attention, AttentionStage) and not isinstance(ffn, AttentionStage)
    assert isinstance(ffn, FfnStage) and not isinstance(norm, FfnStage)
    assert isinstance(norm, NormStage) and norm.eps == 1e-6
    hidden = shape(("B", "S", 12))
    assert ffn.intermediate_shape(hidden) == shape(("B", "S", 20))
    assert GatedMlpStage.hf("mlp").intermediate_shape(hidden)[-1] == UNKNOWN


def test_a_cache_contract_is_what_the_flow_allocates() -> None:
    spec = SelfAttentionSpec("a", hidden_size=12, num_heads=4, num_kv_heads=2, head_dim=5)
    contract = SelfAttentionStage(spec).cache_contract()
    assert contract == KvCacheContract("a.k", "a.v", shape(("B", 2, "C", 5)))
    flow = samples.decoding(rope=False)
    flow = flow.stage(SelfAttentionStage(SelfAttentionSpec("a", 12, 4, 2, 5, rope_table=None))).output("y")
    states = flow.build(samples.FakeWeights(flow)).graph.states
    assert [(s.name, s.before.shape) for s in states] == [("a.k", contract.shape), ("a.v", contract.shape)]
    masked = SelfAttentionSpec("a", 12, 4, 2, 5, mask_input="attention_mask")
    assert SelfAttentionStage(masked).cache_contract() is None


def test_a_block_becomes_a_layer() -> None:
    norm = RmsNormStage("n", 1e-6, hidden_size=12)
    layer: LayerStage = BlockAsLayer(norm)
    hidden = shape(("B", "S", 12))
    assert isinstance(layer, LayerStage) and not isinstance(norm, LayerStage)
    assert layer.artifacts(hidden) == StageArtifacts.hidden_only(hidden)
    assert layer.artifacts(hidden).with_side("tap", hidden).side_outputs == (("tap", hidden),)
    wrapped, bare = (samples.embedded().stage(s).output("y") for s in (layer, norm))
    weights = samples.FakeWeights(bare)
    assert wrapped.build(weights).graph.digest == bare.build(weights).graph.digest
