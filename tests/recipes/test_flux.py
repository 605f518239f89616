"""FLUX's double-stream blocks against diffusers in float32: two streams in one flow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import goldens
import numpy as np
import pytest
from fusion.rules.fusing import expand

import rlxflow
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.flow.built import build
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rules import all_rules
from rlxflow.profile.load import load_profile
from rlxflow.runtime.compile import explain

CASES = goldens.flux_names()


def built(golden: goldens.Golden, *settings: str) -> Any:
    recipe = rlxflow.find_recipe("flux_double_stream")
    config = recipe.config(golden.config, golden.name)
    weights = rlxflow.MapWeights(golden.weights)
    model = build(recipe.flow(config), weights, load_profile("exact", list(settings)))
    assert not model.report.unexpected
    return replace(model, expected=recipe.expected(config))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_agrees_with_diffusers(name: str, backend: str) -> None:
    golden = goldens.flux_case(name)
    run = built(golden, "fusion.assert_clean=true", f"backend.name={backend}").compile()
    assert isinstance(run, CpuExecutable) is (backend == "cpu")
    found = run(golden.inputs)
    for stream, expected in golden.expected.items():
        assert goldens.error(found[stream], expected) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_both_policies_reach_one_graph(name: str) -> None:
    golden = goldens.flux_case(name)
    direct, fusable = (built(golden, f"fusion.policy={policy}").graph for policy in ("direct", "fusable"))
    graphs = [fuse(graph, all_rules(), Facts(32))[0] for graph in (expand(direct), fusable)]
    assert graphs[0].digest == graphs[1].digest
    assert explain(built(golden), 1, 4096).report.clean


@pytest.mark.parametrize("settings", [(), ("backend.name=cpu", "backend.cpu.threads=2")])
def test_a_batch_changes_no_bit(settings: tuple[str, ...]) -> None:
    golden = goldens.flux_case("plain")
    run = built(golden, *settings).compile()
    together = run(golden.inputs)
    alone = run({key: value[1:] for key, value in golden.inputs.items()})
    assert all(np.array_equal(alone[name][0], together[name][1]) for name in alone)


def test_other_norms_are_refused() -> None:
    config = {**goldens.flux_case("plain").config, "qk_norm": "layer_norm"}
    with pytest.raises(rlxflow.ConfigError) as caught:
        rlxflow.find_recipe("flux_double_stream").config(config, "config.json")
    assert caught.value.code == "RLX-C004"
