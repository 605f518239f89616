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
from rlxflow.dtypes import DTYPES, DType, f16, f32, i32
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ops.activation import silu
from rlxflow.ops.attention import cached_attention
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import input_, param, state
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.shape import reshape
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


def attending(dtype: DType, head_dim: int) -> Graph:
    """Products of what 4 heads, of 2 key heads, find in a cache."""
    builder, spans = GraphBuilder(), {}
    with emitting(builder):
        given = {
            n: input_(key=n, dtype=f32, shape=("B", "S", h, head_dim))
            for n, h in (("q", 4), ("k", 2), ("v", 2))
        }
        lengths = {n: input_(key=n, dtype=i32, shape=("B",)) for n in ("past_len", "new_len")}
        for n in ("k", "v"):
            before = state(key=n, dtype=f16, shape=("B", 2, "C", head_dim))
            spans[n] = State(n, before, cache_append(before, given[n], *lengths.values()))
        found = cached_attention(given["q"], spans["k"].after, spans["v"].after, *lengths.values(), scale=0.1)
        flat = reshape(found, shape=("B", "S", 4 * head_dim))
        y = linear(flat, param(key="o", dtype=dtype, shape=(ROWS, 4 * head_dim)))
    return builder.finish("test", given | lengths, {"y": y}, tuple(spans.values()))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "head_dim", "coded"),
    [("q8_0", 128, True), ("q8_0", 64, False), ("q4_k", 128, True), ("q4_k", 64, False)],
)
def test_attention_quantises_what_only_products_read(
    name: str, head_dim: int, coded: bool, target: str
) -> None:
    """Where the heads of a key head are whole groups of blocks; the same bits as with a step of its own, for
    sequences of one token, of several and of many, and of none."""
    graph, rng = attending(DTYPES[name], head_dim), np.random.default_rng(1)
    fused, apart = (compiled(graph, INT8, target, a) for a in ((), ("rows",)))
    assert any(s.startswith("quantise") for s in fused.steps) != coded
    assert any(s.startswith("quantise") for s in apart.steps)
    past = np.array([9, 5, 3, 0], np.int32)
    inputs = {n: rand(rng, 4, 80, h, head_dim) for n, h in (("q", 4), ("k", 2), ("v", 2))}
    inputs |= {"past_len": past, "new_len": np.array([1, 7, 75, 0], np.int32)}
    results = []
    for run in (fused, apart):
        held = run.new_state(4, 90)
        held.lengths[:] = past
        results.append(run(inputs, held)["y"])
    assert np.array_equal(*results)
    assert np.abs(results[0][2]).max() > 0.1
