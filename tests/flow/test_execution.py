"""Compositions, execution configs, presets, decode bindings and graph extensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import flow_samples as samples
import numpy as np
import pytest

from rlxflow import (
    DecodeBindings,
    Emit,
    ExecutionPreset,
    FlowExtensionPlan,
    FlowValue,
    LayerComposition,
    ModelExecutionConfig,
    ModelFlow,
    RlxError,
    graph_extension,
)
from rlxflow.flow import extensions
from rlxflow.ir.graph import Graph
from rlxflow.profile import preset_names


def test_presets_are_the_files() -> None:
    assert sorted(p.value for p in ExecutionPreset) == list(preset_names())
    assert ExecutionPreset.ENCODER.profile().source == "encoder"
    assert len(ExecutionPreset.EXACT.profile_key()) == 16


def test_compositions() -> None:
    single, many = LayerComposition.single("dense"), LayerComposition.homogeneous("moe", 3)
    pair = LayerComposition.pair(single, many)
    assert [c.depth_hint() for c in (single, many, pair)] == [1, 3, 4]
    assert len({c.cache_key() for c in (single, many, pair, LayerComposition.pair(many, single))}) == 4
    stage = pair.to_flow_stage(lambda name, i: samples.ScaleStage(f"{name}.{i}.w", 12))
    assert [s.key for s in stage.weights()] == ["dense.0.w", "moe.1.w", "moe.2.w", "moe.3.w"]
    with pytest.raises(RlxError) as caught:
        LayerComposition.homogeneous("moe", -1)
    assert caught.value.code == "RLX-F017"


def test_an_execution_config_is_a_key() -> None:
    config = ModelExecutionConfig.decode(2, past=30)
    layers = LayerComposition.homogeneous("llama", 2)
    others = [
        config,
        ModelExecutionConfig.decode(2, past=31),
        ModelExecutionConfig.decode(2, past=29, new=2),
        ModelExecutionConfig.prefill(2, 31),
        config.with_preset("exact"),
        config.with_quant("q4_k"),
        config.with_layer_composition(layers),
    ]
    assert len({c.cache_key() for c in others}) == len(others)
    assert config.dim_binding() == {"B": 2, "S": 1, "C": 31}
    assert replace(config).cache_key() == config.cache_key()
    with pytest.raises(RlxError) as caught:
        ModelExecutionConfig.prefill(0, 3)
    assert caught.value.code == "RLX-R070"


def test_an_execution_config_chooses_the_profile() -> None:
    flow = samples.encoder()
    built = flow.build(samples.FakeWeights(flow))
    config = ModelExecutionConfig.encode(1, 8).with_preset(ExecutionPreset.DECODE)
    assert built.with_execution_config(config).profile == ExecutionPreset.DECODE.profile()


def test_decode_bindings_show_lengths_tables_and_caches() -> None:
    seen: list[DecodeBindings] = []

    def look(e: Emit, x: FlowValue | None) -> FlowValue | None:
        seen.append(DecodeBindings.of(e))
        return x

    assert samples.decoding().stage(samples.layer()).custom(look).output("y").check() == ()
    bindings = seen[-1]
    assert list(bindings.caches) == ["layers.0.self_attn.k", "layers.0.self_attn.v"]
    assert list(bindings.rope) == ["rope"]
    assert bindings.new_len.dtype.name == "i32"
    (problem,) = samples.embedded().custom(look).output("y").check()
    assert problem.code == "RLX-F005"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(extensions, "_registered", {})
    yield


def doubled_output(graph: Graph) -> Graph:
    return replace(graph, outputs={**graph.outputs, "again": graph.outputs["y"]})


def tiny() -> ModelFlow:
    return ModelFlow("tiny").input("x", ("B", 2)).stage(samples.ScaleStage("w", 2)).output("y")


@pytest.mark.usefixtures("registry")
def test_extensions_apply_only_where_a_flow_says_so() -> None:
    graph_extension("double")(doubled_output)
    weights = samples.FakeWeights(tiny())

    def outputs(plan: FlowExtensionPlan) -> list[str]:
        return list(tiny().with_extensions(plan).build(weights).graph.outputs)

    assert outputs(FlowExtensionPlan.none()) == ["y"]
    assert outputs(FlowExtensionPlan.all()) == ["y", "again"]
    assert outputs(FlowExtensionPlan.only("double")) == ["y", "again"]
    assert list(tiny().build(weights).graph.outputs) == ["y"]
    program = tiny().with_extensions(FlowExtensionPlan.all()).build(weights).compile()
    result = program({"x": np.ones((1, 2), np.float32)})
    assert np.array_equal(result["again"], result["y"])


@pytest.mark.usefixtures("registry")
def test_extensions_that_do_not_work() -> None:
    graph_extension("double")(doubled_output)
    graph_extension("nothing")(lambda graph: None)  # type: ignore[arg-type, return-value]
    graph_extension("broken")(lambda graph: replace(graph, nodes=graph.nodes[:-1]))
    graph_extension("raising")(lambda graph: graph.missing)  # type: ignore[attr-defined]
    codes = {"dubble": "RLX-X009", "nothing": "RLX-X010", "raising": "RLX-X010", "broken": "RLX-I006"}
    for name, code in codes.items():
        flow = tiny().with_extensions(FlowExtensionPlan.only(name))
        with pytest.raises(RlxError) as caught:
            flow.build(samples.FakeWeights(flow))
        assert caught.value.code == code, name
    assert "with_extensions" in repr(tiny().with_extensions(FlowExtensionPlan.all()))
