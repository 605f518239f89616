"""FLUX's double-stream blocks against diffusers in float32: two streams in one flow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import goldens
import numpy as np
import pytest
from fusion.rules.fusing import expand
from tiny_weights import tiny_weights

import rlxflow
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.flow.built import build
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rules import all_rules
from rlxflow.profile.load import load_profile
from rlxflow.runtime.compile import explain

RECORD: Any = json.loads((goldens.FOLDER / "flux.json").read_text("utf-8"))
CASES = {case["name"]: case for case in RECORD["cases"]}
INPUTS = ("img", "txt", "temb", "img_ids", "txt_ids")
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    with np.load(goldens.FOLDER / "flux.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file)
        return dict(file)


def built(name: str, *settings: str) -> Any:
    case, recipe = CASES[name], rlxflow.find_recipe("flux_double_stream")
    config = recipe.config(case["config"], name)
    weights = rlxflow.MapWeights(tiny_weights(case["shapes"], RECORD["seed"]))
    model = build(recipe.flow(config), weights, load_profile("exact", list(settings)))
    assert not model.report.unexpected
    return replace(model, expected=recipe.expected(config))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_agrees_with_diffusers(name: str, arrays: Arrays, backend: str) -> None:
    run = built(name, "fusion.assert_clean=true", f"backend.name={backend}").compile()
    assert isinstance(run, CpuExecutable) is (backend == "cpu")
    found = run({key: arrays[f"{name}/{key}"] for key in INPUTS})
    for stream in ("img", "txt"):
        assert goldens.error(found[stream], arrays[f"{name}/out_{stream}"]) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_both_policies_reach_one_graph(name: str) -> None:
    direct, fusable = (built(name, f"fusion.policy={policy}").graph for policy in ("direct", "fusable"))
    graphs = [fuse(graph, all_rules(), Facts(32))[0] for graph in (expand(direct), fusable)]
    assert graphs[0].digest == graphs[1].digest
    assert explain(built(name), 1, 4096).report.clean


@pytest.mark.parametrize("settings", [(), ("backend.name=cpu", "backend.cpu.threads=2")])
def test_a_batch_changes_no_bit(arrays: Arrays, settings: tuple[str, ...]) -> None:
    run = built("plain", *settings).compile()
    inputs = {key: arrays[f"plain/{key}"] for key in INPUTS}
    together = run(inputs)
    alone = run({key: value[1:] for key, value in inputs.items()})
    assert all(np.array_equal(alone[name][0], together[name][1]) for name in alone)


def test_other_norms_are_refused() -> None:
    config = {**CASES["plain"]["config"], "qk_norm": "layer_norm"}
    with pytest.raises(rlxflow.ConfigError) as caught:
        rlxflow.find_recipe("flux_double_stream").config(config, "config.json")
    assert caught.value.code == "RLX-C004"
