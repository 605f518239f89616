"""Programs by range of batch · seq: when there are several, which one runs, what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import goldens
import numpy as np
import pytest

import rlxflow
from rlxflow.backends.base import CacheState, Executable
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.fusion.pipeline import TokenRange, token_ranges
from rlxflow.ir.builder import rebuild
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node
from rlxflow.runtime import compile as compiling
from rlxflow.runtime.plans import TokenPlans

LAYER = "fused_transformer_layer"


class Expanded:
    """A program that notes its calls."""

    def __init__(self, graph: Graph, inner: Executable, log: list[int]) -> None:
        self.graph, self._inner, self._log = graph, inner, log

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        self._log.append(self.graph.count(LAYER))
        return self._inner(inputs, state, outputs)

    def new_state(self, batch: int, capacity: int) -> CacheState:
        return self._inner.new_state(batch, capacity)


class LayerBackend:
    """Claims whole encoder layers besides what the reference runs; expands them only to compute."""

    name = "layers"

    def __init__(self) -> None:
        self.compiled: list[Graph] = []
        self.calls: list[int] = []
        self.read: dict[str, list[int]] = {}
        self._reference = ReferenceBackend()

    def runs(self, op: Op[..., Any]) -> bool:
        return op.name == LAYER or self._reference.runs(op)

    def claims(self, node: Node) -> bool:
        return self.runs(node.op)

    def compile(self, graph: Graph, weights: Any, profile: Any) -> Executable:
        self.compiled.append(graph)
        for key in graph.params:
            self.read.setdefault(key, []).append(id(weights.read(key)))
        expanded = rebuild(graph, lambda op: op.decompose_fn is not None)
        return Expanded(graph, self._reference.compile(expanded, weights, profile), self.calls)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> LayerBackend:
    found = LayerBackend()
    monkeypatch.setattr(compiling, "backend_of", lambda profile: found)
    return found


def built() -> rlxflow.BuiltModel:
    golden = goldens.hf_case("bert", "plain")
    recipe = rlxflow.find_recipe("bert")
    return recipe.flow(recipe.config(golden.config)).build(rlxflow.MapWeights(golden.weights))


def inputs(batch: int, seq: int) -> dict[str, Array]:
    return {
        "input_ids": np.ones((batch, seq), np.int64),
        "attention_mask": np.ones((batch, seq), np.int64),
        "token_type_ids": np.zeros((batch, seq), np.int64),
    }


def test_the_call_picks_its_program(backend: LayerBackend) -> None:
    profile = rlxflow.CompileProfile.from_toml_str("[fusion]\nattention_threshold = 12\n")
    program = built().compile(profile)
    assert isinstance(program, TokenPlans)
    assert [str(r) for r, _ in program.plans] == ["[1, 13)", "[13, ∞)"]
    small, large = backend.compiled
    assert small.count(LAYER) == 2 and large.count(LAYER) == 0
    plain = built().compile("exact")
    for batch, seq, layers in ((1, 12, 2), (1, 13, 0), (3, 4, 2), (2, 7, 0)):
        result = program(inputs(batch, seq))
        assert backend.calls.pop() == layers
        expected = plain(inputs(batch, seq))
        for name, value in result.items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5)


def test_programs_share_weights(backend: LayerBackend) -> None:
    built().compile(rlxflow.CompileProfile.from_toml_str("[fusion]\nattention_threshold = 12\n"))
    shared = [found for found in backend.read.values() if len(found) == 2]
    assert len(shared) > 10 and all(a == b for a, b in shared)


def test_limits_of_single_rules(backend: LayerBackend) -> None:
    text = "[passes.max_tokens]\nfuse-transformer-layer = 5\nfuse-swiglu = 9\n"
    profile = rlxflow.CompileProfile.from_toml_str(text)
    assert token_ranges(profile) == (
        TokenRange(1, 6), TokenRange(6, 10), TokenRange(10, 65), TokenRange(65, None)
    )  # fmt: skip
    assert token_ranges(profile, backend.runs) == (TokenRange(1, 6), TokenRange(6, None))
    ((_, reason),) = built_report(profile, 6)
    assert reason == "batch·seq = 6 > 5 (passes.max_tokens.fuse-transformer-layer, <text>:2:1)"


def built_report(profile: rlxflow.CompileProfile, tokens: int) -> tuple[tuple[int, str], ...]:
    return compiling.explain(built(), 1, tokens, profile).report.rule("fuse-transformer-layer").refused


def test_one_program_where_limits_change_nothing() -> None:
    assert not isinstance(built().compile("encoder"), TokenPlans)
    assert token_ranges(rlxflow.CompileProfile(), ReferenceBackend().runs) == (TokenRange(1, None),)
    assert TokenRange(1, None).tokens is None


def test_wrong_inputs_are_refused_as_by_one_program(backend: LayerBackend) -> None:
    program = built().compile("exact")
    for wrong in ({}, {**inputs(1, 3), "input_ids": [1, 2]}):
        with pytest.raises(InputError):
            program(wrong)  # type: ignore[arg-type]
