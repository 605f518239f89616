"""A flow is data: immutable, comparable, hashable, printed as code; checked before sizes are known."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from flow_samples import BERT, FakeWeights, ScaleStage, decoder, decoding, embedded, encoder, ids, layer
from hypothesis import given, settings, strategies as st

import rlxflow
from rlxflow.dtypes import Array, DType, f16, f32
from rlxflow.flow.declared import declare
from rlxflow.flow.emit import Emit
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.layer_stack import LayerStack
from rlxflow.flow.lowering import lower
from rlxflow.ir.dims import UNKNOWN
from rlxflow.ir.text import parse_graph
from rlxflow.ir.values import Type, Value
from rlxflow.ir.verify import verify
from rlxflow.ops.elementwise import add, mul
from rlxflow.stages.norm import RmsNormStage
from rlxflow.stages.rope import RopeTablesStage
from rlxflow.weights.plan import WeightSpec

NAMES = {name: getattr(rlxflow, name) for name in dir(rlxflow) if name[0].isupper()} | {
    "ScaleStage": ScaleStage
}


def built(flow: ModelFlow, **more: Any) -> Any:
    return flow.build(FakeWeights(flow, **more)).graph


def named_scaling() -> ModelFlow:
    scaling = (("factor", 8.0), ("long_factor", (1.0, 2.0)), ("rope_type", "longrope"), ("truncate", None))
    return decoding(rope=False).rope_tables(RopeTablesStage(4, 1e4, scaling, table="long"))


FLOWS = {
    "empty": lambda: ModelFlow("empty"),
    "encoder": encoder,
    "decoder": decoder,
    "tied": lambda: decoder(tied=True),
    "weird-names": lambda: ModelFlow("a \"b\" 'c' \\ \n é")
    .input("x y", ("B", "2*S+1", 3), "f16", default=1).stage(ScaleStage("w \" ' \n", 3)),
    "profile": lambda: encoder().with_profile("encoder"),
    "bert": lambda: embedded().bert_encoder_layer(BERT),
    "nested": lambda: embedded().layer(
        "outer", lambda s: s.residual_save().layer("inner", lambda t: t.rms_norm("n", 1e-6)).residual_add()),
    "scaling": named_scaling,
    "streams": lambda: embedded().store_stream("a").linear("w", 12, "b").load_stream("a").gelu_ffn("ffn", 7)
    .swiglu_hf_mlp("mlp", 9).cls_token_pool(),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_prints_as_code_that_builds_an_equal_flow(name: str) -> None:
    flow = FLOWS[name]()
    again = eval(repr(flow), dict(NAMES))  # noqa: S307  (our own flow)
    assert again == flow and hash(again) == hash(flow) and repr(again) == repr(flow)
    assert FLOWS[name]() == flow and flow.diff(again) == ""


def test_flows_differ_where_their_parts_do() -> None:
    flows = {name: make() for name, make in FLOWS.items()}
    assert len(set(flows.values())) == len(FLOWS)
    base = decoder()
    for other in (decoder(3), decoder(vocab_size=51), decoder(window=4), base.with_profile("decode")):
        assert other != base and hash(other) != hash(base)


def test_diff_shows_the_stage_that_changed() -> None:
    shown = decoder().diff(decoder(activation="gelu")).splitlines()
    added = [line for line in shown if line.startswith("+") and "activation='gelu'" in line]
    assert len(added) == 2 and all("layers." in line for line in added)


def test_every_method_gives_a_new_flow() -> None:
    flow = embedded()
    before = repr(flow)
    longer = flow.rms_norm("n", 1e-6).output("y").input("z", ("B",)).with_profile("encoder")
    assert repr(flow) == before and len(longer.stages) == len(flow.stages) + 2
    with pytest.raises(FrozenInstanceError):
        flow.name = "other"  # type: ignore[misc]


def test_when_patch_and_repeat_run_at_once_and_leave_no_closure() -> None:
    calls: list[int] = []

    def make(i: int) -> RmsNormStage:
        calls.append(i)
        return RmsNormStage(f"norm.{i}", 1e-6)

    flow = embedded().repeat_layers(3, make).when(False, lambda f: calls.append(9) or f)  # type: ignore[func-returns-value]
    flow = flow.when(True, lambda f: f.linear("w", 12)).patch(lambda f: f.rms_norm("last", 1e-6))
    assert calls == [0, 1, 2]
    plain = embedded()
    for i in range(3):
        plain = plain.stage(LayerStack(f"layers.{i}", (RmsNormStage(f"norm.{i}", 1e-6),)))
    assert flow == plain.linear("w", 12).rms_norm("last", 1e-6)


def test_a_closure_is_compared_by_identity() -> None:
    def double(e: Emit, x: Value | None) -> Value:
        return add(e.need(x), e.need(x))

    assert embedded().custom(double) == embedded().custom(double)
    assert embedded().custom(double) != embedded().custom(lambda e, x: double(e, x))


def test_layers_carry_their_paths_and_keys() -> None:
    graph = built(decoder(3))
    linears = [n for n in graph.nodes if n.op.name == "matmul_bias_act"]
    paths = {path for n in linears for path in graph.stages[n]}
    assert paths == {f"layers.{i}.decoder_layer.attention" for i in range(3)}
    assert [s.name for s in graph.states] == [f"layers.{i}.self_attn.{n}" for i in range(3) for n in "kv"]
    assert set(graph.params) == set(FakeWeights(decoder(3)).keys())


def test_stages_of_one_name_are_numbered() -> None:
    flow = (
        embedded().rms_norm("a", 1e-6).rms_norm("b", 1e-6).layer("rms_norm", lambda s: s.rms_norm("c", 1e-6))
    )
    assert [path for path, _ in lower(flow).trace] == ["embed", "rms_norm", "rms_norm_2", "rms_norm_3"]


# -- residuals, streams, custom stages ---------------------------------------------------------------


def run(flow: ModelFlow, x: Array, **weights: Array) -> Array:
    """The flow's output on one input "x", with these weights."""
    model = flow.build(rlxflow.MapWeights(weights)).compile("exact")
    (result,) = model({"x": x}).values()
    return result


def floats(flow_name: str = "m") -> ModelFlow:
    return ModelFlow(flow_name).input("x", ("B", "S", 3))


def test_residuals_nest() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    flow = (
        floats()
        .residual_save()
        .residual_save()
        .stage(ScaleStage("w", 3))
        .residual_add()
        .stage(ScaleStage("w", 3))
    )
    w = np.array([2, 3, 5], np.float32)
    assert np.array_equal(run(flow.residual_add(), x, w=w), x + w * (x + w * x))


def test_a_stack_may_save_and_add_within_an_open_residual() -> None:
    x, w = np.ones((1, 1, 3), np.float32), np.full(3, 2, np.float32)
    inner = (
        floats()
        .residual_save()
        .layer("in", lambda s: s.residual_save().stage(ScaleStage("w", 3)).residual_add())
    )
    assert np.array_equal(run(inner.residual_add(), x, w=w), x + (x + w * x))


def test_streams_keep_values_aside() -> None:
    x, w = np.ones((1, 2, 3), np.float32), np.full(3, 2, np.float32)
    flow = floats().store_stream("a").stage(ScaleStage("w", 3)).store_stream("b").load_stream("a")
    assert np.array_equal(run(flow.stage(ScaleStage("w", 3)).residual_save().residual_add(), x, w=w), 4 * x)
    assert np.array_equal(run(flow.load_stream("b"), x, w=w), 2 * x)


def test_a_custom_stage_reads_weights_inputs_and_makes_outputs() -> None:
    def gate(e: Emit, x: Value | None) -> Value:
        y = mul(e.need(x), e.weight("w"))
        e.output("gated", y)
        with e.scope("twice"):
            return add(y, e.run(ScaleStage("w", 3), y) or y)

    flow = floats().custom(gate, {"w": (3,)}, name="gate").output("sum")
    assert flow.check() == () and [s.key for s in flow.weights()] == ["w"]
    x, w = np.ones((1, 1, 3), np.float32), np.full(3, 2, np.float32)
    model = flow.build(rlxflow.MapWeights({"w": w})).compile("exact")
    results = model({"x": x})
    assert np.array_equal(results["gated"], 2 * x) and np.array_equal(results["sum"], 6 * x)
    paths = {p for ps in built(flow).stages.values() for p in ps}
    assert {"gate", "gate.twice", "gate.twice.scale"} <= paths


def test_an_optional_weight_may_be_absent() -> None:
    def maybe(e: Emit, x: Value | None) -> Value:
        bias = e.optional_weight("b")
        return e.need(x) if bias is None else add(e.need(x), bias)

    flow = floats().custom(maybe, (WeightSpec("b", (3,), optional=True),))
    x = np.ones((1, 1, 3), np.float32)
    assert np.array_equal(run(flow, x), x)
    assert np.array_equal(run(flow, x, b=np.ones(3, np.float32)), 2 * x)
    must = floats().custom(
        lambda e, x: add(e.need(x), e.weight("b")), (WeightSpec("b", (3,), optional=True),)
    )
    assert must.check() == ()
    with pytest.raises(rlxflow.RlxError, match="'b' is optional and absent") as caught:
        must.build(rlxflow.MapWeights({}))
    assert caught.value.code == "RLX-F002" and caught.value.where == "custom"


# -- sizes that only a checkpoint tells --------------------------------------------------------------


def test_undeclared_sizes_stay_open_until_the_header_tells_them() -> None:
    flow = ids().embed("embed").rms_norm("n", 1e-6).linear("w").stage(ScaleStage("s", 4))
    assert flow.check() == ()
    values = [value for _, value in lower(flow).trace]
    assert [v.shape[2] for v in values if v is not None] == [UNKNOWN, UNKNOWN, UNKNOWN, 4]
    summary = flow.summary()
    assert summary.unknown == 3 and summary.parameters == 4
    assert "and 3 weights whose size only the checkpoint tells" in str(summary)
    weights = {"embed": (50, 12), "n": (12,), "w": (4, 12), "s": (4,)}
    graph = flow.build(rlxflow.MapWeights({k: np.ones(s, np.float32) for k, s in weights.items()})).graph
    assert [d for node in graph.nodes for v in node.outputs for d in v.shape if d == UNKNOWN] == []
    with pytest.raises(rlxflow.RlxError) as caught:
        flow.build(rlxflow.MapWeights({k: np.ones(s, np.float32) for k, s in {**weights, "n": (9,)}.items()}))
    assert caught.value.code == "RLX-I010" and "weight is [9], wanted [12]" in caught.value.message


def test_one_stage_may_tell_a_size_that_another_leaves_open() -> None:
    flow = ids().embed("table").rms_norm("n", 1e-6).embed("table", 50, 12)
    types = declare(flow).types
    assert types["table"] == ("table", Type(f32, (50, 12)))


def test_a_tied_head_reads_the_embedding() -> None:
    graph = built(decoder(tied=True))
    assert "lm_head.weight" not in graph.params
    table = graph.params["model.embed_tokens.weight"]
    assert sorted(n.op.name for n in graph.users[table]) == ["gather", "linear", "linear"]


# -- summary -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_summary_counts_parameters_once(tied: bool) -> None:
    flow = decoder(2, tied=tied)
    h, n, kv, i, v = 12, 16, 8, 20, 50
    one_layer = h + (n + kv + kv) * h + h * n + h + 3 * i * h
    total = v * h + 2 * one_layer + (0 if tied else v * h)
    summary = flow.summary()
    assert summary.parameters == total and summary.unknown == 1  # the final norm leaves its width open
    assert [path for path, _, _ in summary.rows] == [
        *("embed", "rope_tables", "layers.0", "layers.1", "rms_norm", "output", "lm_head")
    ]
    counts = {path: count for path, _, count in summary.rows}
    assert counts["layers.0"] == one_layer and counts["lm_head"] == (0 if tied else v * h)
    assert {path: shape for path, shape, _ in summary.rows}["lm_head"] == "f32[B,S,50]"
    assert f"{total:,} parameters" in str(summary) and f"{total * 4 / 2**20:,.1f} MiB" in str(summary)


def test_summary_of_a_broken_flow_shows_what_is_known() -> None:
    rows = embedded().linear("w", 7).residual_add().mean_pool("mask").summary().rows
    assert [shape for _, shape, _ in rows] == ["f32[B,S,12]", "f32[B,S,7]", "f32[B,S,7]", "f32[B,S,7]"]


# -- two policies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder", "decoder", "tied", "bert", "streams"])
def test_direct_and_fusable_graphs_are_sound(name: str) -> None:
    flow = FLOWS[name]()
    types: dict[str, tuple[str, Type] | None] = {
        k: (t[0], Type(f32, tuple(12 if d == UNKNOWN else d for d in t[1].shape))) if t else None
        for k, t in declare(flow).types.items()
    }
    direct, fusable = lower(flow, types).graph, lower(flow, types, fusable=True).graph
    assert direct is not None and fusable is not None
    assert verify(direct) and verify(fusable)
    assert {n.op.level for n in fusable.nodes} == {"primitive"} and "block" in {
        n.op.level for n in direct.nodes
    }
    assert set(direct.params) == set(fusable.params)


@pytest.mark.parametrize("stored", [f16, f32])
def test_weights_of_any_float_dtype_fit_both_policies(stored: DType) -> None:
    """Biases meet activations of another dtype in both policies alike."""
    flow = encoder()
    types: dict[str, tuple[str, Type] | None] = {
        k: (t[0], Type(stored, tuple(20 if d == UNKNOWN else d for d in t[1].shape))) if t else None
        for k, t in declare(flow).types.items()
    }
    types |= {
        k: (k, Type(stored, (12,)))
        for k in types
        if "norm.b" in k or "LayerNorm" in k or k.startswith("norm")
    }
    for fusable in (False, True):
        lowered = lower(flow, types, fusable=fusable)
        assert lowered.problems == () and lowered.graph is not None
        assert {v.dtype for v in lowered.graph.outputs.values()} == {f32}


# -- random flows ------------------------------------------------------------------------------------

steps = st.lists(
    st.sampled_from(["norm", "linear", "save", "scale", "mlp", "store", "load", "layer"]),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_random_flows_print_and_lower(names: list[str]) -> None:
    flow, stored, saved = embedded().store_stream("s"), True, 0
    for i, name in enumerate(names):
        if name == "norm":
            flow = flow.rms_norm(f"n{i}", 1e-6)
        elif name == "linear":
            flow = flow.linear(f"w{i}", 12, f"b{i}" if i % 2 else None)
        elif name == "save":
            flow, saved = flow.residual_save(), saved + 1
        elif name == "scale":
            flow = flow.stage(ScaleStage(f"s{i}", 12))
        elif name == "mlp":
            flow = flow.swiglu(f"g{i}", f"u{i}", f"d{i}", 7)
        elif name == "store":
            flow = flow.store_stream("s")
        elif name == "load" and stored:
            flow = flow.load_stream("s")
        else:
            flow = flow.layer(
                f"l{i}", lambda s, i=i: s.residual_save().rms_norm(f"ln{i}", 1e-6).residual_add()
            )
    for _ in range(saved):
        flow = flow.residual_add()
    assert flow.check() == ()
    assert eval(repr(flow), dict(NAMES)) == flow  # noqa: S307
    assert lower(flow).graph is not None and lower(flow).graph.digest == lower(flow).graph.digest  # type: ignore[union-attr]


def test_a_decoder_deeper_than_the_recursion_limit() -> None:
    flow = decoding().repeat_layers(1_200, layer)
    graph = verify(built(flow))
    assert len({flow, replace(flow)}) == 1
    text = str(graph)
    assert text.count("cached_attention(") == 1_200 and parse_graph(text).digest == graph.digest


def test_F12_10000_layers() -> None:
    """Declared, hashed, compared, printed, built, verified and digested without recursion."""
    flow = embedded().repeat_layers(10_000, lambda i: RmsNormStage(f"norm.{i}", 1e-6))
    assert flow == replace(flow) and len({flow, replace(flow)}) == 1
    graph = verify(built(flow))
    assert len(graph.digest) == 32 and str(graph).count("rms_norm(") == 10_000
    assert flow.summary().unknown == 10_000
