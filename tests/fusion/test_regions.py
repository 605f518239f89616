"""Elementwise regions: what goes into one, the limits, and that a region is its program."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fusion.graphs import graph_of, run, weight

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import f16, f32
from rlxflow.errors import GraphError
from rlxflow.fusion.regions import MAX_NODES, MAX_OPERANDS, form_regions
from rlxflow.ir.builder import GraphBuilder, rebuild
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.text import parse_graph
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.activation import gelu, silu
from rlxflow.ops.elementwise import add, cast, exp, mul, neg, sub
from rlxflow.ops.leaves import full, input_
from rlxflow.ops.linear import linear
from rlxflow.ops.region import elementwise_region
from rlxflow.ops.shape import reshape


def sizes(graph: Graph) -> list[int]:
    return [len(n.attrs["program"]) for n in graph.nodes if n.op is elementwise_region]


CASES: dict[str, tuple[Callable[[Value], object], list[int]]] = {
    "chain": (lambda x: exp(neg(gelu(x))), [3]),
    "diamond": (lambda x: mul(silu(x), neg(x)), [3]),
    "inner diamond": (lambda x: (lambda y: mul(y, exp(y)))(neg(x)), [3]),
    "one node": (lambda x: gelu(x), []),
    "with a weight": (lambda x: mul(add(x, weight("b", 8)), weight("w", 8)), [2]),
    "cast": (lambda x: cast(neg(cast(x, dtype=f16)), dtype=f32), [3]),
    "tapped": (lambda x: {"y": exp(neg(x)), "tap": neg(x)}, []),
    "read elsewhere": (lambda x: {"y": exp(neg(x)), "z": linear(neg(x), weight("w", 8, 8))}, []),
    "another shape": (
        lambda x: add(reshape(neg(reshape(x, shape=("B", "S", 8, 1))), shape=("B", "S", 8)), x),
        [],
    ),
    "between products": (lambda x: linear(neg(exp(linear(x, weight("a", 8, 8)))), weight("b", 8, 8)), [2]),
}


@pytest.mark.parametrize("name", CASES)
def test_regions(name: str) -> None:
    make, expected = CASES[name]
    graph = graph_of(lambda x: make(x))  # type: ignore[arg-type, return-value]
    formed = verify(form_regions(graph, None))
    assert sizes(formed) == expected
    before, after = run(graph), run(formed)
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert rebuild(formed, lambda op: op is elementwise_region).digest == graph.digest
    assert parse_graph(str(formed)).digest == formed.digest


def test_a_long_chain_is_cut() -> None:
    def make(x: Value) -> Value:
        for _ in range(2 * MAX_NODES + 5):
            x = neg(x)
        return x

    formed = form_regions(graph_of(make), None)
    assert sorted(sizes(formed)) == [5, MAX_NODES, MAX_NODES]


def test_operands_are_limited() -> None:
    def make(x: Value) -> Value:
        for i in range(20):
            x = mul(x, weight(f"w{i}", 8))
        return x

    formed = verify(form_regions(graph_of(make), None))
    assert all(len(n.inputs) <= MAX_OPERANDS for n in formed.nodes if n.op is elementwise_region)
    assert sum(sizes(formed)) == 20


def test_weights_stay_out() -> None:
    graph = graph_of(lambda x: mul(x, neg(neg(add(weight("w", 8), full(value=1.0, dtype=f32, shape=()))))))
    assert form_regions(graph, None) is graph


def test_a_backend_that_does_not_claim_regions_gets_none() -> None:
    graph = graph_of(lambda x: exp(neg(x)))
    assert form_regions(graph, ReferenceBackend().claims).digest == graph.digest


@pytest.mark.parametrize(
    "program",
    [
        (),
        (("add", (0, 5), ()),),
        (("add", (0, -2), ()),),
        (("nothing", (0,), ()),),
        (("matmul_bias_act", (0, 1), ()),),
        (("rope_tables", (0, 1), ()),),
        (("neg", (0,), (("eps", 1.0),)),),
        (("neg", (-1,), ()),),
        ("neg",),
        (1, 2, 3),
    ],
)
def test_a_malformed_program_is_refused(program: tuple[object, ...]) -> None:
    with emitting(GraphBuilder()):
        x = input_(key="x", dtype=f32, shape=("B", 8))  # type: ignore[arg-type]
        with pytest.raises(GraphError):
            elementwise_region(x, x, program=program)  # type: ignore[arg-type]


def test_stage_paths_are_united() -> None:
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=("B", 8))  # type: ignore[arg-type]
        with builder.scope("a"):
            y = neg(x)
        with builder.scope("b"):
            y = sub(y, x)
    formed = form_regions(builder.finish("g", {"x": x}, {"y": y}), None)
    (region,) = (n for n in formed.nodes if n.op is elementwise_region)
    assert formed.stages[region] == ("a", "b")
