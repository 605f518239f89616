"""All rules on the graphs of the recipes."""

from __future__ import annotations

from collections.abc import Callable

import goldens
import numpy as np
import pytest
from fusion.rules.fusing import expand

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.flow.lowering import lower
from rlxflow.flow.recipe import find_recipe
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rules import all_rules
from rlxflow.fusion.simplify import remove_no_ops
from rlxflow.ir.graph import Graph
from rlxflow.ir.text import parse_graph
from rlxflow.ir.verify import verify
from rlxflow.profile.model import CompileProfile
from rlxflow.weights.source import MapWeights

MODELS = goldens.hf_model_types()
CASES = [(m, name) for m in MODELS for name in goldens.hf_names(m)]
cases = pytest.mark.parametrize(("model_type", "name"), CASES)
any_tokens = pytest.mark.parametrize("tokens", [32, 512])


def graph_of(model_type: str, name: str, fusable: bool) -> Graph:
    recipe, golden = find_recipe(model_type), goldens.hf_case(model_type, name)
    graph = lower(recipe.flow(recipe.config(golden.config)), fusable=fusable).graph
    assert graph is not None
    return graph


def fused(graph: Graph, tokens: int) -> Graph:
    return verify(fuse(graph, all_rules(), Facts(tokens))[0])


@cases
@any_tokens
def test_both_policies_reach_one_graph(model_type: str, name: str, tokens: int) -> None:
    fusable, direct = (graph_of(model_type, name, policy) for policy in (True, False))
    assert expand(direct).digest == fusable.digest
    result = fused(fusable, tokens)
    assert fused(result, tokens).digest == result.digest
    assert remove_no_ops(expand(result), []).digest == fusable.digest
    assert parse_graph(str(result)).digest == result.digest


@cases
@any_tokens
def test_agrees_with_hugging_face(model_type: str, name: str, tokens: int) -> None:
    golden = goldens.hf_case(model_type, name)
    graph = legalize(fused(graph_of(model_type, name, fusable=True), tokens), ReferenceBackend().claims)
    model = ReferenceBackend().compile(graph, MapWeights(golden.weights), CompileProfile())
    ((output, expected),) = golden.expected.items()
    actual = np.zeros_like(expected)
    for row, valid in enumerate(golden.valid):  # each sequence alone, without its padding
        arrays = {k: a[row : row + 1, valid] for k, a in golden.inputs.items()}
        length = np.array([valid.sum()], np.int32)
        arrays |= {"past_len": 0 * length, "new_len": length}
        arrays.setdefault("token_type_ids", 0 * arrays["input_ids"])
        given = {k: a for k, a in arrays.items() if k in graph.inputs}
        state = model.new_state(1, int(length[0])) if graph.states else None
        actual[row, valid] = model(given, state, (output,))[output][0]
    assert golden.error(actual) <= 1e-5


def per_layer(
    model_type: str, tokens: int, change: Callable[[dict[str, object]], object] = dict
) -> dict[str, int]:
    """Op → how many more of it four layers have than two, halved."""
    counts = []
    for layers in (2, 4):
        config = goldens.hf_case(model_type, "plain").config
        config["num_hidden_layers"] = layers
        config.pop("layer_types", None)
        change(config)
        recipe = find_recipe(model_type)
        graph = lower(recipe.flow(recipe.config(config)), fusable=True).graph
        assert graph is not None
        result = fused(graph, tokens)
        counts.append({n.op.name: result.count(n.op.name) for n in result.nodes})
    two, four = counts
    return {
        n: (four[n] - two.get(n, 0)) // 2
        for n in four
        if n not in ("param", "state") and four[n] != two.get(n)
    }


def test_bert_layers() -> None:
    assert per_layer("bert", 32) == {"fused_transformer_layer": 1, "concat": 2}
    assert per_layer("bert", 512) == {
        "shared_input_linear": 1,
        "reshape": 4,
        "attention": 1,
        "matmul_bias_act": 3,
        "residual_layer_norm": 2,
    }


def test_qwen3_layers() -> None:
    assert per_layer("qwen3", 32) == {"cached_attention_block": 1, "residual_rms_norm": 2, "gated_mlp": 1}
    assert per_layer("qwen3", 512) == {
        "shared_input_linear": 1,
        "qk_norm_rope": 1,
        "reshape": 4,
        "cache_append": 2,
        "cached_attention": 1,
        "linear": 1,
        "residual_rms_norm": 2,
        "gated_mlp": 1,
    }


def test_llama_layers() -> None:
    assert per_layer("llama", 32) == {"cached_attention_block": 1, "residual_rms_norm": 2, "gated_mlp": 1}
    assert per_layer("llama", 512) == {
        "shared_input_linear": 1,
        "reshape": 4,
        "rope": 2,
        "cache_append": 2,
        "cached_attention": 1,
        "linear": 1,
        "residual_rms_norm": 2,
        "gated_mlp": 1,
    }


def test_the_report_of_a_refused_layer() -> None:
    graph = graph_of("bert", "plain", fusable=True)
    _, results = fuse(graph, all_rules(), Facts(512, 64, "profile encoder"))
    (layers,) = (r for r in results if r.rule.name == "fuse-transformer-layer")
    assert [r.reason for r in layers.refusals] == ["batch·seq = 512 > 64 (profile encoder)"] * 2
    assert not layers.matches and not layers.misses
