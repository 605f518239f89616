"""The pipeline: switches, ranges, fuel, blame, reports; and that compiling through it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import goldens
import numpy as np
import pytest
from fusion.graphs import graph_of, run, weight
from model_files import run as run_model, write_golden

import rlxflow
from rlxflow.errors import FusionError, InputError
from rlxflow.flow.lowering import lower
from rlxflow.flow.recipe import find_recipe
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.pipeline import Optimized, TokenRange, optimize, token_ranges
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.fusion.rules import all_rules
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear
from rlxflow.profile.model import CompileProfile
from rlxflow.runtime.bisect_fusion import bisect
from rlxflow.runtime.compile import compile_graph, explain
from rlxflow.runtime.verify_fusion import first_wrong, verify_rewrites

MODELS = goldens.hf_model_types()
FEW = ["bert", "gemma2", "llama", "modernbert"]  # enough for what does not depend on the model
Load = Callable[[str], rlxflow.Model]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The plain model of a type, loaded once."""
    return cache(
        lambda t: rlxflow.load(write_golden(tmp_path_factory.mktemp(t), goldens.hf_case(t, "plain")))
    )


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, plain: Load) -> rlxflow.Model:
    return plain(request.param)


@pytest.fixture(params=[m for m in MODELS if m != "olmo2"])
def with_blocks(request: pytest.FixtureRequest, plain: Load) -> rlxflow.Model:
    """OLMo 2 has norms between projections and heads, and so no attention that is one op."""
    return plain(request.param)


@pytest.fixture(params=FEW)
def any_model(request: pytest.FixtureRequest, plain: Load) -> rlxflow.Model:
    return plain(request.param)


def profile(text: str) -> CompileProfile:
    return CompileProfile.from_toml_str("version = 1\n" + text, "test.rlx.toml")


@pytest.mark.parametrize("tokens", [8, 4096])
def test_recipes_are_clean(model: rlxflow.Model, tokens: int) -> None:
    report = model.explain(1, tokens)
    assert report.clean, str(report)
    assert sum(r.matched for r in report.rules) > 2
    assert all(r.places == r.expected for r in report.rules if not r.off)
    accounted = [r for r in report.rules if r.expected]
    for r in accounted:
        assert r.matched + sum(n for n, _ in r.refused) + sum(n for n, _ in r.inside) == r.expected, r.name


ALL = [(t, n) for t in MODELS for n in goldens.hf_names(t)]


@pytest.mark.parametrize(("model_type", "name"), ALL)
def test_expected_counts_hold_for_every_config(model_type: str, name: str) -> None:
    golden = goldens.hf_case(model_type, name)
    recipe = find_recipe(model_type)
    config = recipe.config(golden.config, "config.json")
    graph = lower(recipe.flow(config), fusable=True).graph
    assert graph is not None
    found = {rule.name: len(fuse(graph, [rule], Facts(8))[1][0].matches) for rule in all_rules()}
    assert {name: count for name, count in found.items() if count} == {
        name: count
        for name, count in recipe.expected(config).items()  # type: ignore[attr-defined]
        if count
    }


def test_a_threshold_is_named_with_its_origin(any_model: rlxflow.Model) -> None:
    strict = profile("[fusion]\nattention_threshold = 16\n")
    report = any_model.explain(2, 9, strict)
    block = report.rule("fuse-attention-block")
    assert block.matched == 0
    ((count, reason),) = block.refused
    assert count == block.expected
    assert reason == "batch·seq = 18 > 16 (fusion.attention_threshold, test.rlx.toml:3:1)"
    assert any_model.explain(2, 8, strict).rule("fuse-attention-block").refused == ()


def test_the_environment_overrides_the_threshold(
    any_model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLX_FUSE_ATTN_THRESHOLD", "3")
    ((_, reason),) = any_model.explain(1, 4, "encoder").rule("fuse-attention-block").refused
    assert reason == "batch·seq = 4 > 3 (fusion.attention_threshold, RLX_FUSE_ATTN_THRESHOLD)"


def test_a_rule_is_switched_off_by_a_line(any_model: rlxflow.Model) -> None:
    report = any_model.explain(1, 8, profile("[passes.rules]\nfuse-attention-block = false\n"))
    rule = report.rule("fuse-attention-block")
    assert rule.matched == 0 and rule.off == "passes.rules.fuse-attention-block, test.rlx.toml:3:1"
    assert rule.note() == f"switched off ({rule.off})" and rule.note() in " ".join(str(report).split())
    assert report.clean


def test_skip_fuses_nothing(any_model: rlxflow.Model) -> None:
    report = any_model.explain(1, 8, profile("[fusion]\nskip = true\n"))
    assert not any(r.matched for r in report.rules)
    assert all(r.off == "fusion.skip, test.rlx.toml:3:1" for r in report.rules)
    assert all(node.op.level == "primitive" for node in report.graphs["fused"].nodes)


def test_direct_and_fusable_reach_one_graph(model: rlxflow.Model) -> None:
    golden = goldens.hf_case(model.flow.name, "plain")
    weights = rlxflow.MapWeights(golden.weights)
    digests = {}
    for policy in ("direct", "fusable"):
        built = model.flow.build(weights, profile(f'[fusion]\npolicy = "{policy}"\n'))
        for tokens in (8, 4096):
            digests[policy, tokens] = explain(built, 1, tokens).fused.digest
    assert digests["direct", 8] == digests["fusable", 8]
    assert digests["direct", 4096] == digests["fusable", 4096]


def test_the_number_of_tokens_chooses_the_graph(with_blocks: rlxflow.Model) -> None:
    few, many = with_blocks.explain(1, 8), with_blocks.explain(1, 4096)
    assert few.graphs["fused"].digest != many.graphs["fused"].digest


def test_compiling_for_fewer_tokens_than_all_gives_the_same_numbers(model: rlxflow.Model) -> None:
    golden = goldens.hf_case(model.flow.name, "plain")
    assert golden.error(run_model(model, golden)) <= 1e-5
    off = rlxflow.Model(
        model.name, replace(model.built, profile=profile("[fusion]\nskip = true\n")), model.config
    )
    assert np.array_equal(run_model(off, golden), run_model(model, golden))


def test_plans_by_token_range() -> None:
    assert token_ranges(CompileProfile()) == (TokenRange(1, 65), TokenRange(65, None))
    assert token_ranges(profile("[fusion]\nattention_threshold = 0\n")) == (TokenRange(1, None),)
    small, large = token_ranges(CompileProfile())
    assert 64 in small and 65 not in small and 0 not in small and 65 in large and 10**9 in large
    assert (small.tokens, large.tokens) == (64, 65) and str(small) == "[1, 65)"


def test_assert_clean(model: rlxflow.Model) -> None:
    demanding = profile("[fusion]\nassert_clean = true\n")
    compile_graph(model.built, demanding)
    wrong = replace(model.built, expected={**(model.built.expected or {}), "fuse-attention-block": 99})
    with pytest.raises(FusionError) as caught:
        compile_graph(wrong, demanding)
    assert caught.value.code == "RLX-U010" and "fuse-attention-block" in caught.value.message
    with pytest.raises(FusionError) as caught:
        compile_graph(replace(model.built, expected=None), demanding)
    assert caught.value.code == "RLX-U011"


def small() -> Graph:
    def make(x: Value) -> Value:
        for i in range(3):
            x = gelu(add(linear(x, weight(f"w{i}", 8, 8)), weight(f"b{i}", 8)))
        return x

    return graph_of(make, path="layer")


def fused(graph: Graph, rules: list[Rule], limit: int | None = None) -> Optimized:
    return optimize(graph, CompileProfile(), rules=rules, limit=limit)


def test_fuel() -> None:
    rule = Rule("mine", matmul_bias_act)
    for limit in range(4):
        optimized = fused(small(), [rule], limit)
        assert optimized.graph.count("matmul_bias_act") == limit
        assert np.array_equal(run(optimized.graph)["y"], run(small())["y"])


def broken(only: str) -> Rule:
    """A rule that is right but for the weight `only`, where it puts another activation."""

    def emit(x: Value, w: Value, b: Value | None, *, activation: str) -> Value:
        wrong = w.node.attrs["key"] == only
        return matmul_bias_act(x, w, b, activation="relu" if wrong else activation)  # type: ignore[arg-type]

    return Rule("mine", matmul_bias_act, emit=emit)


def test_verify_finds_the_wrong_rewrite() -> None:
    good = verify_rewrites(fused(small(), [Rule("mine", matmul_bias_act)]).results)
    assert [(v.rule, v.rewrites, v.tried, v.error) for v in good] == [("mine", 3, 1, 0.0)]

    def relu_instead(x: Value, w: Value, b: Value | None, *, activation: str) -> Value:
        return matmul_bias_act(x, w, b, activation="relu")

    (bad,) = verify_rewrites(fused(small(), [Rule("mine", matmul_bias_act, emit=relu_instead)]).results)
    assert bad.error > 0.01 and bad.where == "layer"


def test_blame_is_found_by_halving() -> None:
    expected = run(small())["y"]
    for number, key in enumerate(("w0", "w1", "w2"), 1):
        tried = []

        def error_with(n: int, key: str = key, tried: list[int] = tried) -> float:
            tried.append(n)
            return float(np.abs(run(fused(small(), [broken(key)], n).graph)["y"] - expected).max())

        assert first_wrong(error_with, 3, 1e-6) == number
    assert first_wrong(lambda n: 0.0, 1000, 1e-6) is None
    steps: list[int] = []

    def step(n: int) -> float:
        steps.append(n)
        return float(n >= 700)

    assert first_wrong(step, 1000, 0.5) == 700 and len(steps) <= 12


def test_no_rewrite_of_a_model_is_to_blame(model: rlxflow.Model) -> None:
    assert bisect(model.built, 1, 5) is None
    for found in verify_rewrites(explain(model.built, 1, 5).results):
        assert found.error <= 1e-12


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-1, 5), (1, 1 << 40)])
def test_sizes_are_checked(any_model: rlxflow.Model, sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError) as caught:
        any_model.explain(*sizes)
    assert caught.value.code == "RLX-R070"


@pytest.mark.parametrize("width", [8, 4], ids=["in the middle", "at the end"])
def test_a_rule_that_changes_a_type_is_stopped(width: int) -> None:
    def make(x: Value) -> Value:
        y = gelu(linear(x, weight("w", 4, 8)))
        return linear(y, weight("v", 8, 4)) if width == 8 else y

    bad = Rule("mine", matmul_bias_act, emit=lambda x, w, b, *, activation: x)
    with pytest.raises(FusionError) as caught:
        fused(graph_of(make), [bad])
    assert caught.value.code == "RLX-U020" and "'mine'" in caught.value.message and caught.value.hint


def test_costs_of_a_linear_are_known(model: rlxflow.Model) -> None:
    """One linear by hand: 2·B·S·K·N FLOPs; reads x and w, writes y."""
    from rlxflow.inspect.cost import cost

    c = cost(graph_of(lambda x: linear(x, weight("w", 16, 8))), {"B": 2, "S": 3})
    assert (c.nodes, c.flops, c.weight_bytes) == (1, 2 * 6 * 8 * 16, 4 * 128)
    assert c.bytes_moved == 4 * (6 * 8 + 128 + 6 * 16)
    outputs = [n for n in model.built.graph.outputs if n != "last_logits"]  # which do without most of these
    costs = explain(model.built, 1, 8, outputs=outputs).report.costs
    assert costs["fused"].flops == costs["expanded"].flops == costs["run"].flops
    assert costs["fused"].nodes < costs["expanded"].nodes
    assert costs["fused"].bytes_moved < costs["expanded"].bytes_moved


def test_the_report_is_one_screen(model: rlxflow.Model) -> None:
    for seq in (8, 512):
        text = str(model.explain(1, seq))
        assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 110


def test_a_report_knows_its_rules(plain: Load) -> None:
    with pytest.raises(InputError) as caught:
        plain("llama").explain(1, 4).rule("fuse-swiglo")
    assert caught.value.code == "RLX-R071" and "did you mean 'fuse-swiglu'?" in caught.value.hint
