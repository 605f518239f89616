"""Tracing, binding, replacing: what rules build on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import goldens
import numpy as np
import pytest
from effort import calls_of
from fusion.rules.fusing import H, difference, expand, fused, graph_of, p, run, x

from rlxflow.errors import FusionError, PluginError
from rlxflow.flow.lowering import lower
from rlxflow.flow.recipe import find_recipe
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.pipeline import optimize
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.fusion.rules import all_rules
from rlxflow.fusion.trace import trace
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import OPS, Op, emitting, op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.activation import gelu, silu
from rlxflow.ops.blocks import matmul_bias_act, residual_layer_norm
from rlxflow.ops.elementwise import add, mul, neg
from rlxflow.ops.linear import linear
from rlxflow.ops.shape import reshape
from rlxflow.profile.model import CompileProfile


@pytest.fixture
def new_op() -> Iterator[Op[..., Value]]:
    """A row for the length of a test."""

    def trial(v: Value, w: Value | None = None, *, n: int = 1) -> Type:
        """Nothing in particular."""
        return v.type

    yield op("fused")(trial)
    del OPS["trial"]


def test_variants() -> None:
    """Operands double the patterns, an attribute multiplies them only where the function asks for it."""
    patterns = trace(matmul_bias_act)
    assert len(patterns) == 17 and [len(v.nodes) for v in patterns[:8]] == [3] * 8
    assert len(trace(residual_layer_norm)) == 2
    assert len(OPS["attention_block"].attrs) == 10
    rule = next(r for r in all_rules() if r.name == "fuse-attention-block")
    assert len([v for v in rule.patterns if v.op.name == "attention_block"]) == 64


def test_an_op_without_meaning_is_refused(new_op: Op[..., Value]) -> None:
    with pytest.raises(FusionError, match="has no decomposition") as caught:
        trace(new_op)
    assert caught.value.code == "RLX-U001"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda v, w=None, *, n=1: neg(v) if n > 1 else v, "decides by attribute 'n'"),
        (lambda v, w=None, *, n=1: neg(v) if n == 1 else v, "decides by attribute 'n'"),
        (lambda v, w=None, *, n=1: neg(v) if n else v, "decides by attribute 'n'"),
        (lambda v, w=None, *, n=1: neg(v) if v.rank == 2 else v, "decides by a size"),
        (lambda v, w=None, *, n=1: neg(neg(v)), "does not read operand 'w'"),
        (lambda v, w=None, *, n=1: neg(v.nonsense), "raises AttributeError"),
        (lambda v, w=None, *, n=1: v * 2, "unsupported operand"),
        (lambda v, *, n=1: neg(neg(v)), "positional argument"),
        (lambda v, w=None, *, n=1: None, "returns NoneType"),
        (lambda v, w=None, *, n=1: (neg(neg(v)), neg(v)), "returns 2 values, the op has 1"),
        (lambda v, w=None, *, n=1: reshape(v, shape=(*v.shape, 1)), "unpacks a shape of unknown rank"),
    ],
)
def test_what_cannot_be_traced_is_named(new_op: Op[..., Value], body: object, message: str) -> None:
    new_op.decompose(body)  # type: ignore[arg-type]
    with pytest.raises(FusionError) as caught:
        trace(new_op)
    assert caught.value.code == "RLX-U002" and message in caught.value.message
    assert caught.value.where.startswith(__file__)


def test_a_rule_without_pattern_is_refused(new_op: Op[..., Value]) -> None:
    with pytest.raises(FusionError, match="has no pattern") as caught:
        _ = Rule("fuse-trial", new_op).patterns
    assert caught.value.code == "RLX-U001" and "@trial.decompose" in caught.value.hint
    new_op.decompose(lambda v, w=None, *, n=1: v)
    with pytest.raises(FusionError, match="has no pattern") as caught:
        _ = Rule("fuse-trial", new_op).patterns
    assert "gives an operand back" in caught.value.hint
    with pytest.raises(FusionError, match="which is no op") as caught:
        Rule("fuse-trial", neg.rule)  # type: ignore[arg-type]
    assert caught.value.code == "RLX-U001" and "@op" in caught.value.hint


@pytest.mark.parametrize(
    ("part", "function", "said"),
    [
        ("allow", lambda match, facts: 1 / 0, "raised ZeroDivisionError"),
        ("allow", lambda match: None, "raised TypeError"),
        ("allow", lambda match, facts: False, "gave False, neither a reason nor None"),
        ("allow", lambda match, facts: True, "gave True, neither a reason nor None"),
        ("emit", lambda *operands, **attrs: 1 / 0, "raised ZeroDivisionError"),
        ("emit", lambda *operands, **attrs: None, "gave None, which is no value"),
        ("emit", lambda *operands, **attrs: (1, 2), "gave (1, 2), which is no value"),
    ],
)
def test_a_function_of_a_rule_that_fails_is_told_with_the_rule(
    new_op: Op[..., Value], part: str, function: Any, said: str
) -> None:
    new_op.decompose(lambda v, w=None, *, n=1: neg(silu(v)) if w is None else add(neg(silu(v)), w))
    rule = Rule("faulty", new_op, **{part: function})
    graph = graph_of(lambda: neg(silu(x())))
    with pytest.raises(FusionError) as caught:
        optimize(graph, CompileProfile(), rules=[rule])
    assert caught.value.code == "RLX-U021" and f"{part} of rule 'faulty' {said}" in caught.value.message


def test_rules_given_to_a_compile_are_checked() -> None:
    """Of two rules with one name the report would tell the second, whatever the first did."""
    graph, rule = graph_of(lambda: neg(silu(x()))), all_rules()[0]
    for rules, code in (([rule, rule], "RLX-X008"), ([rule.op], "RLX-X007"), ([None], "RLX-X007")):
        with pytest.raises(PluginError) as caught:
            optimize(graph, CompileProfile(), rules=rules)  # type: ignore[arg-type]
        assert caught.value.code == code and "rules[" in caught.value.where


def test_what_the_graph_lacks_is_named() -> None:
    graph = graph_of(lambda: neg(neg(x())))
    report = optimize(graph, CompileProfile(), rules=[Rule("mine", matmul_bias_act)]).report
    assert report.rule("mine").missing() == ("add", "linear")
    assert "no place   the graph has no add and no linear" in str(report)


def test_an_op_whose_row_is_not_annotated() -> None:
    def trial(v: Value, w) -> Type:  # type: ignore[no-untyped-def]
        return v.type

    with pytest.raises(PluginError, match="'trial' has no annotation for 'w'") as caught:
        op("fused")(trial)
    assert caught.value.code == "RLX-X011" and "Value" in caught.value.hint


def test_a_level_that_does_not_exist() -> None:
    with pytest.raises(PluginError) as caught:
        op("fusd")  # type: ignore[arg-type]
    assert caught.value.code == "RLX-X011" and "fused" in caught.value.hint


def tree(values: Sequence[Value]) -> Value:
    while len(values) > 1:
        values = [add(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def test_many_ways_to_bind_end() -> None:
    """A sum of 16 leaves matches itself in 2¹⁵ ways; a reader inside makes each of them fail."""

    def many(
        a: Value, b: Value, c: Value, d: Value, e: Value, f: Value, g: Value, h: Value,
        i: Value, j: Value, k: Value, l: Value, m: Value, n: Value, o: Value, q: Value,
    ) -> Type:  # fmt: skip
        return a.type

    row = op("fused")(many)
    row.decompose(lambda *values: tree(values))  # type: ignore[arg-type]
    del OPS["many"]

    def make() -> tuple[Value, Value]:
        total = tree([p(f"v{i}", 4) for i in range(16)])
        return total, neg(total.node.inputs[0].node.inputs[1])

    graph, rules = graph_of(make), [Rule("trial", row)]
    calls_of(lambda: fuse(graph, rules), limit=2_000_000)
    _, (result,) = fuse(graph, rules)
    assert not result.matches
    assert str(result.misses[0]) == "15/15 agree; [use] the result of add is also read by neg"


def test_matches_that_need_each_other() -> None:
    """Two pairs of projections, where the first pair reads the second's and the second the first's."""

    def gated(v: Value, gate: Value, up: Value) -> tuple[Value, ...]:
        return mul(silu(gate), up), neg(gate)

    def make() -> tuple[Value, ...]:
        v = p("v", 2, 3, 6)
        first_gate, second_up = linear(v, p("g", 6, 6)), linear(v, p("u", 6, 6))
        first_up = linear(v, reshape(second_up, shape=(6, 6)))
        second_gate = linear(v, reshape(first_gate, shape=(6, 6)))
        return *gated(v, first_gate, first_up), *gated(v, second_gate, second_up)

    graph = graph_of(make)
    result, found = fused(graph)
    assert result.count("gate_up_linear") == 1 and result.count("linear") == 2
    (refusal,) = found["fuse-shared-input-matmul"].refusals
    assert refusal.reason == "[cycle] it would read, and be read by, a match of gate_up_linear"
    assert difference(run(result, np.float64), run(graph, np.float64)) <= 1e-10
    assert fused(result)[0].digest == result.digest


def test_a_limit_on_rewrites() -> None:
    graph = graph_of(lambda: gelu(linear(gelu(linear(x(), p("w", H, H))), p("v", H, H))))
    counts = [fuse(graph, all_rules(), Facts(), limit)[0].count("matmul_bias_act") for limit in (0, 1, 2, 3)]
    assert counts == [0, 1, 2, 2]


def test_stage_paths_are_united() -> None:
    builder = GraphBuilder()
    with emitting(builder):
        with builder.scope("first"):
            y = linear(x(), p("w", H, H))
        with builder.scope("second"):
            y = gelu(add(y, p("b", H)))
    result, _ = fuse(builder.finish("test", {}, {"y": y}), all_rules())
    (node,) = (n for n in result.nodes if n.op.name == "matmul_bias_act")
    assert set(result.stages[node]) == {"first", "second"}


def test_fused_text_parses_where_nothing_is_imported_yet() -> None:
    text = str(fused(graph_of(lambda: mul(gelu(linear(x(), p("g", 5, H))), linear(x(), p("u", 5, H)))))[0])
    code = "import sys; from rlxflow.ir.text import parse_graph; print(parse_graph(sys.stdin.read()), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == text and "fused_gate_up" in text


def deep(model_type: str, layers: int) -> Graph:
    config = goldens.hf_case(model_type, "plain").config
    config["num_hidden_layers"] = layers
    config.pop("layer_types", None)
    recipe = find_recipe(model_type)
    graph = lower(recipe.flow(recipe.config(config)), fusable=True).graph
    assert graph is not None
    return graph


@pytest.mark.parametrize("model_type", ["bert", "qwen3"])
@pytest.mark.parametrize("tokens", [32, 512])
def test_work_is_linear_in_layers(model_type: str, tokens: int) -> None:
    """Counted in calls; a cost that grew with the square of the layers would be 64 times as high."""
    calls = []
    fuse(deep(model_type, 1), all_rules(), Facts(tokens))  # traces the patterns
    for layers in (10, 80):
        graph = deep(model_type, layers)
        calls.append(calls_of(partial(fuse, graph, all_rules(), Facts(tokens))))
        result, _ = fuse(graph, all_rules(), Facts(tokens))
        assert expand(result).count("linear") == graph.count("linear")
    assert calls[1] <= 9 * calls[0]
