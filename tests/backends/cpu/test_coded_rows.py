"""Chains of row ops whose result only products read, in one layout: quantised where they are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import TARGETS, Array, close, rand

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import DTYPES, DType, f32
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ops.activation import silu
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import input_, param
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.profile.load import load_profile

INT8, HALF = (
    load_profile("exact", [f"precision.mixed={m}", "backend.cpu.threads=1"]) for m in ("int8", "auto")
)
DEPTH, ROWS = 512, 20


def build(dtype: DType, stored: bool = False, other: DType | None = None) -> Graph:
    """a and b are products of one normed sum; `stored`: what is normed is an output besides."""
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=("B", "S", DEPTH))
        gain = param(key="gain", dtype=f32, shape=(DEPTH,))
        normed = rms_norm(add(x, x), gain, eps=1e-6)
        outputs: dict[str, Value] = {"normed": normed} if stored else {}
        for key, kind in (("a", dtype), ("b", other or dtype)):
            outputs[key] = linear(normed, param(key=key, dtype=kind, shape=(ROWS, DEPTH)))
    return builder.finish("test", {"x": x}, outputs)


class Weights:
    """Bytes of valid blocks, or numbers."""

    def __init__(self, graph: Graph) -> None:
        rng = np.random.default_rng(0)
        self._arrays: dict[str, Array] = {}
        for node in graph.nodes:
            if node.op.name == "param":
                kind = node.outputs[0].dtype
                shape = node.outputs[0].shape
                self._arrays[node.attrs["key"]] = _drawn(rng, kind, [int(str(d)) for d in shape])

    def read(self, key: str) -> Array:
        return self._arrays[key]


def _drawn(rng: np.random.Generator, kind: DType, shape: list[int]) -> Array:
    if kind == f32:
        return rand(rng, *shape)
    blocks = rng.integers(0, 128, (shape[0] * shape[1] // kind.block_size, kind.block_bytes), np.uint8)
    blocks[:, :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def compiled(
    graph: Graph, profile: Any, target: str = "avx512", apart: tuple[str, ...] = ()
) -> CpuExecutable:
    return CpuBackend(target, True, apart=apart).compile(graph, Weights(graph), profile)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["q8_0", "q4_k", "f32"])
def test_rows_are_quantised_where_they_are_computed(name: str, target: str) -> None:
    """The same bits as with a step of its own."""
    graph = build(DTYPES[name])
    x = rand(np.random.default_rng(1), 2, 9, DEPTH)
    for profile in (INT8, HALF):
        fused, apart = (compiled(graph, profile, target, a) for a in ((), ("rows",)))
        got, want = fused({"x": x}), apart({"x": x})
        assert all(np.array_equal(got[key], want[key]) for key in want)
        assert sum("quantise" in s for s in apart.steps) == sum("quantise" in s for s in fused.steps)
        assert sum(s.startswith("rms_norm") for s in fused.steps) == 1
        assert not any(s.startswith("quantise") for s in fused.steps)


@pytest.mark.parametrize("name", ["q8_0", "q4_k"])
def test_products_of_one_x_are_joined_where_what_they_make_is_quantised(name: str) -> None:
    """SiLU(gate) · up is no tail of one of them, which would read the other: again the same bits."""
    builder, kind = GraphBuilder(), DTYPES[name]
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=("B", "S", DEPTH))
        gate, up = (linear(x, param(key=k, dtype=kind, shape=(DEPTH, DEPTH))) for k in ("gate", "up"))
        down = linear(mul(silu(gate), up), param(key="down", dtype=kind, shape=(ROWS, DEPTH)))
    graph = builder.finish("test", {"x": x}, {"down": down})
    given = {"x": rand(np.random.default_rng(1), 2, 9, DEPTH)}
    fused, apart = (compiled(graph, INT8, "avx512", a) for a in ((), ("rows",)))
    assert np.array_equal(fused(given)["down"], apart(given)["down"])
    assert [s.startswith("linear") for s in fused.steps].count(True) == 2
    assert [s.startswith("linear") for s in apart.steps].count(True) == 3
    exact = compiled(graph, load_profile("exact", ["backend.cpu.threads=1"]))
    assert [s.startswith("linear") for s in exact.steps].count(True) == 3


def test_rows_that_others_read_are_stored() -> None:
    """An output, or a product that reads f32, needs the row itself."""
    for graph in (build(DTYPES["q8_0"], stored=True), build(DTYPES["q8_0"], other=DTYPES["q4_k"])):
        run = compiled(graph, INT8)
        assert any(s.startswith("quantise") for s in run.steps), run.steps
        x = rand(np.random.default_rng(1), 1, 3, DEPTH)
        got = run({"x": x})
        reference = ReferenceBackend().compile(graph, Weights(graph), INT8)  # type: ignore[arg-type]
        close(got, reference({"x": x}), 2e-2)
