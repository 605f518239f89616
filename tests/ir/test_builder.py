"""Builders: one identity per node, paths united, expansion, and refusals that say where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from graph_samples import decoder, encoder

import rlxflow.ops  # noqa: F401
from rlxflow.dtypes import f32, i64
from rlxflow.errors import GraphError, PluginError, RlxError
from rlxflow.ir.builder import GraphBuilder, rebuild
from rlxflow.ir.op import OPS, Op, emitting, op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.blocks import gated_mlp, matmul_bias_act, residual_rms_norm
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, exp, neg
from rlxflow.ops.leaves import full, input_, param, state
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import l2_normalize, softmax
from rlxflow.ops.shape import reshape


@pytest.fixture
def builder() -> Iterator[GraphBuilder]:
    builder = GraphBuilder()
    with emitting(builder):
        yield builder


def value(key: str = "x", *shape: int | str) -> Value:
    return input_(key=key, dtype=f32, shape=shape or ("B", 4))


def test_equal_nodes_are_one(builder: GraphBuilder) -> None:
    x = value()
    assert add(x, x) is add(x, x)
    assert value() is x and value("y") is not x
    assert softmax(x) is softmax(x, axis=-1)
    assert softmax(x) is not softmax(x, axis=0)
    weight = param(key="n", dtype=f32, shape=(4,))
    first, second = residual_rms_norm(x, x, weight, eps=1)
    assert first is residual_rms_norm(x, x, weight, eps=1.0)[0] and first is not second


def test_what_python_calls_equal_may_differ(builder: GraphBuilder) -> None:
    zeros = {full(value=v, dtype=f32, shape=()) for v in (0.0, -0.0, 0)}
    assert len(zeros) == 2


def test_paths_of_merged_nodes_are_united_in_order(builder: GraphBuilder) -> None:
    x = value()
    for path in ("b", "a", "b", "c"):
        with builder.scope(path):
            y = exp(x)
    with builder.scope("outer"), builder.scope("inner"):
        z = neg(y)
    graph = builder.finish("g", {"x": x}, {"y": y, "z": z})
    assert graph.stages == {y.node: ("b", "a", "c"), z.node: ("inner",)}
    assert graph.where(y.node) == "b, a, c" and graph.where(x.node) == ""


def test_only_what_is_needed_is_kept(builder: GraphBuilder) -> None:
    x, unused = value(), value("unused")
    dead = exp(x)
    y = neg(x)
    graph = builder.finish("g", {"x": x, "unused": unused}, {"y": y})
    assert dead.node not in graph.nodes and unused.node in graph.nodes
    assert [n.op.name for n in graph.nodes] == ["input", "input", "neg"]


def test_expansion_gives_what_the_decomposition_says() -> None:
    def block(op: Op[..., object]) -> bool:
        return op.level == "block"

    expanding = GraphBuilder(block)
    with emitting(expanding):
        x = value()
        w = [param(key=k, dtype=f32, shape=(4, 4)) for k in "abc"]
        direct = gated_mlp(x, *w)
        with expanding.scope("mlp"):
            y = matmul_bias_act(direct, w[0], param(key="b", dtype=f32, shape=(4,)), activation="gelu")
            total, normed = residual_rms_norm(y, x, param(key="n", dtype=f32, shape=(4,)), eps=1e-6)
    graph = expanding.finish("g", {"x": x}, {"total": total, "normed": normed})
    assert {n.op.level for n in graph.nodes} == {"primitive"}
    counted = ("linear", "silu", "mul", "gelu", "add", "rms_norm")
    assert [graph.count(name) for name in counted] == [
        4,
        1,
        1,
        1,
        2,
        1,
    ]
    assert graph.stages[total.node] == ("mlp",)


def test_a_misused_block_is_reported_in_its_own_words_and_place() -> None:
    expanding = GraphBuilder(lambda op: True)
    with emitting(expanding), expanding.scope("layers.3.mlp"), pytest.raises(GraphError) as caught:
        x = value()
        w = param(key="w", dtype=f32, shape=(4, 4))
        gated_mlp(x, w, param(key="v", dtype=f32, shape=(3, 4)), w)
    assert caught.value.where == "layers.3.mlp" and "up is [3,4]" in caught.value.message


@pytest.mark.parametrize("sample", [encoder, decoder])
def test_rebuilding_without_expansion_changes_nothing(sample: object) -> None:
    graph = sample()  # type: ignore[operator]
    again = rebuild(graph, lambda op: False)
    assert str(again) == str(graph) and again.digest == graph.digest


def test_select_drops_what_only_other_outputs_need() -> None:
    graph = decoder()
    last = graph.select(["last"])
    assert list(last.outputs) == ["last"] and last.states == graph.states
    assert last.count("select_token") == 1
    total = graph.select(["total"])
    assert total.count("select_token") == 0 and total.count("cache_append") == 1
    with pytest.raises(GraphError, match="no output 'totals'") as caught:
        graph.select(["totals"])
    assert caught.value.code == "RLX-I011" and caught.value.hint == "did you mean 'total'?"


def test_users_and_params() -> None:
    graph = encoder()
    assert list(graph.params) == ["embed", "positions", "w", "q"]
    heads = next(n for n in graph.nodes if n.op.name == "reshape").outputs[0]
    assert [n.op.name for n in graph.users[heads]] == ["attention"]


def test_a_value_of_another_graph_is_refused(builder: GraphBuilder) -> None:
    with emitting(GraphBuilder()):
        foreign = value()
    with builder.scope("mine"), pytest.raises(GraphError, match="another graph") as caught:
        neg(foreign)
    assert caught.value.code == "RLX-I012" and caught.value.where == "mine"
    assert not builder.owns(foreign)


def test_calls_outside_a_builder_are_refused() -> None:
    with emitting(GraphBuilder()):
        x = value()
    with pytest.raises(GraphError, match="outside a builder") as caught:
        neg(x)
    assert caught.value.code == "RLX-I003" and "emitting" in caught.value.hint


@pytest.mark.parametrize(
    ("call", "code", "message", "hint"),
    [
        (lambda x: add(x), "RLX-I004", "operand 'b' is missing", ""),
        (lambda x: add(x, None), "RLX-I004", "operand 'b' is missing", ""),
        (lambda x: add(x, 2.0), "RLX-I004", "operand 'b' is float", ""),
        (lambda x: add(x, x, x), "RLX-I004", "takes 2 operands, got 3", ""),
        (lambda x: softmax(x, axes=1), "RLX-I004", "no attribute 'axes'", "did you mean 'axis'?"),
        (lambda x: softmax(x, axis="1"), "RLX-I005", "attribute 'axis' is '1', not int", ""),
        (lambda x: l2_normalize(x, eps=[1]), "RLX-I005", "attribute 'eps'", ""),
        (lambda x: reshape(x), "RLX-I005", "attribute 'shape' is missing", ""),
        (lambda x: x.dim(2), "RLX-I008", "axis 2 is outside [B,4]", "the value has 2 axes"),
        (
            lambda x: neg(state(key="k", dtype=f32, shape=(4,))),
            "RLX-I004",
            "a cache state is not a value",
            "cached",
        ),
        (lambda x: cache_append(x, x, x, x), "RLX-I010", "cache is not a state", "declare it"),
    ],
)
def test_wrong_calls(builder: GraphBuilder, call: object, code: str, message: str, hint: str) -> None:
    x = value()
    with pytest.raises(GraphError) as caught:
        call(x)  # type: ignore[operator]
    assert caught.value.code == code and message in caught.value.message and hint in caught.value.hint


def test_operands_may_be_named(builder: GraphBuilder) -> None:
    x, w = value(), param(key="w", dtype=f32, shape=(4, 4))
    assert linear(x=x, weight=w) is linear(x, w)
    bias = param(key="b", dtype=f32, shape=(4,))
    assert matmul_bias_act(x, w, bias=bias) is matmul_bias_act(x, w, bias)


@pytest.fixture
def third_party() -> Iterator[None]:
    """Ops registered by the test leave the table again."""
    known = dict(OPS)
    yield
    OPS.clear()
    OPS.update(known)


def test_a_rule_that_fails_is_reported_as_the_ops_fault(builder: GraphBuilder, third_party: None) -> None:
    @op("primitive")
    def broken(x: Value, *, kind: int) -> Type:
        if kind == 0:
            return x.shape[9]  # type: ignore[return-value]
        return None  # type: ignore[return-value]

    x = value()
    with pytest.raises(GraphError, match="type rule raised IndexError") as caught:
        broken(x, kind=0)
    assert caught.value.code == "RLX-I009" and isinstance(caught.value.__cause__, IndexError)
    with pytest.raises(GraphError, match="gave no Type") as caught:
        broken(x, kind=1)
    assert caught.value.code == "RLX-I009" and "return a Type" in caught.value.hint


def test_two_ops_of_one_name_are_refused(third_party: None) -> None:
    def softmax(x: Value) -> Type:
        return x.type

    with pytest.raises(PluginError, match=r"defined in rlxflow\.ops\.norm and in") as caught:
        op("primitive")(softmax)
    assert caught.value.code == "RLX-X001" and caught.value.hint == "rename one of them"


def test_errors_are_one_tree(builder: GraphBuilder) -> None:
    with pytest.raises(RlxError):
        linear(value(), input_(key="ids", dtype=i64, shape=(4, 4)))
