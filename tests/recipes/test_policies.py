"""`direct` and `fusable` graphs of every golden config: the same primitives, and the same numbers."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
from model_files import run

from rlxflow import find_recipe
from rlxflow.flow.built import build
from rlxflow.flow.lowering import is_block
from rlxflow.ir.builder import rebuild
from rlxflow.profile.load import load_profile
from rlxflow.runtime.model import Model
from rlxflow.weights.source import MapWeights

CASES = [
    (model_type, name) for model_type in goldens.hf_model_types() for name in goldens.hf_names(model_type)
]


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_policies_meet(model_type: str, name: str) -> None:
    golden = goldens.hf_case(model_type, name)
    recipe = find_recipe(model_type)
    config = recipe.config(golden.config, name)
    flow = recipe.flow(config)
    models = {}
    for policy in ("direct", "fusable"):
        profile = load_profile("exact", [f"fusion.policy={policy}"])
        built = build(flow, MapWeights(golden.weights), profile, recipe.prefixes, recipe.unused)
        models[policy] = Model(name, built, config)
    direct, fusable = models["direct"].graph, models["fusable"].graph
    assert any(is_block(node.op) for node in direct.nodes)
    assert not any(is_block(node.op) for node in fusable.nodes)
    assert rebuild(direct, is_block).digest == fusable.digest
    assert np.array_equal(run(models["direct"], golden), run(models["fusable"], golden))
