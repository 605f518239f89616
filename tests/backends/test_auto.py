"""The backend `auto`: compiled where that runs everything, else the reference, and it tells why."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import goldens
import numpy as np
import pytest

import rlxflow
from rlxflow.backends.auto import AutoBackend
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.find import find_backend
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dtypes import f32
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import input_
from rlxflow.ops.shape import transpose
from rlxflow.profile.load import load_profile
from rlxflow.runtime import compile as compiling
from rlxflow.weights.source import MapWeights

PROFILE = load_profile("exact")


def graph(transposed: bool) -> Graph:
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=(dim("B"), 4, 4))
        y = transpose(x, perm=(0, 2, 1)) if transposed else x
        outputs = {"y": add(x, y)}
    return builder.finish("square", {"x": x}, outputs)


def run(executable: Any) -> Mapping[str, np.ndarray[Any, Any]]:
    result: Mapping[str, np.ndarray[Any, Any]] = executable(
        {"x": np.arange(16, dtype=np.float32).reshape(1, 4, 4)}
    )
    return result


def test_the_compiled_backend_is_taken_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    backend = AutoBackend()
    chosen, why, _ = backend.choose(graph(False), PROFILE, 1)
    assert chosen.name == "cpu" and why
    compiled = backend.compile(graph(False), MapWeights({}), PROFILE)
    assert isinstance(compiled, CpuExecutable) and run(compiled)["y"][0, 0, 1] == 2
    assert capfd.readouterr().err == ""


def test_the_reference_takes_the_rest_and_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    backend = AutoBackend()
    chosen, why, _ = backend.choose(graph(True), PROFILE, 1)
    assert chosen.name == "reference" and "transpose" in why
    compiled = backend.compile(graph(True), MapWeights({}), PROFILE)
    assert isinstance(compiled, ReferenceExecutable) and run(compiled)["y"][0, 0, 1] == 1 + 4
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "square" in told and "transpose" in told


def test_without_llvmlite_the_reference_runs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    load = builtins.__import__

    def no_llvm(name: str, *rest: Any) -> Any:
        if name.startswith("rlxflow.backends.cpu"):
            raise ImportError("no llvmlite")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_llvm)
    backend = AutoBackend()
    assert backend.choose(graph(False), PROFILE, 1)[0].name == "reference"
    assert isinstance(backend.compile(graph(False), MapWeights({}), PROFILE), ReferenceExecutable)
    assert "no llvmlite" in capfd.readouterr().err


def test_the_variable_speaks_for_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    named = load_profile("exact", ["backend.name=cpu"])
    monkeypatch.setenv(compiling.BACKEND_VARIABLE, "reference")
    assert compiling.backend_of(PROFILE).name == "reference"
    assert compiling.backend_of(named).name == "cpu"
    monkeypatch.delenv(compiling.BACKEND_VARIABLE)
    assert compiling.backend_of(PROFILE).name == "auto" == find_backend("auto").name


def test_explain_tells_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiling.BACKEND_VARIABLE)
    golden = goldens.hf_case("qwen3", "plain")
    recipe = rlxflow.find_recipe("qwen3")
    built = recipe.flow(recipe.config(golden.config)).build(rlxflow.MapWeights(golden.weights))
    report = compiling.explain(built, 1, 8).report
    assert report.backend == "cpu"
    assert any("cpu was chosen" in note for note in report.notes)


@pytest.mark.parametrize("transposed", [False, True], ids=["compiled", "reference"])
def test_memory_is_that_of_the_backend_chosen_planned_once(
    transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Any] = []
    plan = CpuBackend._plan

    def counted(*given: Any) -> Any:
        plans.append(given)
        return plan(*given)

    name = "reference" if transposed else "cpu"
    expected = find_backend(name).memory(graph(transposed), PROFILE, 3)
    monkeypatch.setattr(CpuBackend, "_plan", counted)
    assert AutoBackend().memory(graph(transposed), PROFILE, 3) == expected
    assert len(plans) == 1
