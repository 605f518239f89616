"""The gated delta rule in checked mode, for every vector width, against Hugging Face."""

from __future__ import annotations

import pytest
from compare import PROFILE, TARGETS
from flow.test_gated_delta import CASES, TOLERANCE, call, case, flow
from goldens import error

from rlxflow import MapWeights
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.fusion.legalize import legalize


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_stays_within_its_memory(name: str, target: str) -> None:
    golden, backend = case(name), CpuBackend(target, checked=True)
    graph = legalize(flow(golden).build(MapWeights({})).graph, backend.claims)
    program = backend.compile(graph, MapWeights({}), PROFILE)
    batch, tokens = golden["q"].shape[:2]
    state = program.new_state(batch, 4)
    state.arrays["s"][...] = golden["before"]
    assert error(call(program, state, golden, 0, tokens), golden["y"]) <= TOLERANCE
    assert error(state.arrays["s"], golden["after"]) <= TOLERANCE
