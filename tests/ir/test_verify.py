"""The verifier: each kind of violation, all of them at once, and linear use of states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from graph_samples import SAMPLES, decoder, finish

from rlxflow.dtypes import f16, f32, i32
from rlxflow.errors import GraphError
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import UNKNOWN, dim
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ir.verify import verify, violations
from rlxflow.ops.attention import cached_attention
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, exp, neg
from rlxflow.ops.leaves import input_, param, state
from rlxflow.ops.norm import softmax

Made = tuple[Mapping[str, Value], Mapping[str, Value], tuple[State, ...]]


@pytest.mark.parametrize("name", SAMPLES)
def test_sound_graphs_pass(name: str) -> None:
    graph = SAMPLES[name]()
    assert verify(graph) is graph


def two_steps() -> Graph:
    """x → exp → neg, with stage paths."""
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=("B", 4))
        with builder.scope("layers.0"):
            y = exp(x)
        z = neg(y)
    return builder.finish("two", {"x": x}, {"z": z})


def by_hand(node: Node, **changes: Any) -> Node:
    """A copy of a node with other parts, unchecked."""
    parts = {"operands": node.operands, "attrs": node.attrs, "types": tuple(v.type for v in node.outputs)}
    return Node(node.op, **{**parts, **changes})


def expect(graph: Graph, *complaints: str) -> None:
    found = violations(graph)
    assert len(found) == len(complaints), found
    for complaint in complaints:
        assert any(complaint in line for line in found), (complaint, found)


def test_operand_after_its_user() -> None:
    graph = two_steps()
    expect(
        replace(graph, nodes=(graph.nodes[0], *reversed(graph.nodes[1:]))), "is not defined before its use"
    )


def test_operand_of_another_graph_names_the_stage() -> None:
    graph, other = two_steps(), two_steps()
    user = by_hand(graph.nodes[1], operands=other.nodes[0].outputs)
    stages = {user: ("layers.0",)}
    broken = Graph("g", graph.inputs, {"y": user.outputs[0]}, (), (graph.nodes[0], user), stages)
    expect(broken, "exp (layers.0): operand")


def test_declared_type_differs() -> None:
    graph = two_steps()
    liar = by_hand(graph.nodes[1], types=(Type(f16, (dim("B"), 4)),))
    broken = Graph("g", graph.inputs, {"y": liar.outputs[0]}, (), (graph.nodes[0], liar))
    expect(broken, "declares f16[B,4], its rule gives f32[B,4]")
    many = by_hand(graph.nodes[1], types=(graph.nodes[0].outputs[0].type,) * 2)
    broken = Graph("g", graph.inputs, {"y": many.outputs[0]}, (), (graph.nodes[0], many))
    expect(broken, "its rule gives f32[B,4]")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"operands": ()}, "operand 'x' is missing"),
        ({"operands": (None,)}, "operand 'x' is missing"),
        ({"attrs": {"axis": 5}}, "axis 5 is outside rank 2"),
        ({"attrs": {"axis": "0"}}, "attribute 'axis' is '0'"),
        ({"attrs": {"axis": 0, "extra": 1}}, "no attribute 'extra'"),
    ],
)
def test_operands_and_attributes_that_the_op_does_not_take(changes: dict[str, Any], complaint: str) -> None:
    def make() -> Made:
        x = input_(key="x", dtype=f32, shape=("B", 4))
        return {"x": x}, {"y": softmax(x)}, ()

    graph = finish(make)
    bad = by_hand(graph.nodes[1], **changes)
    expect(Graph("g", graph.inputs, {"y": bad.outputs[0]}, (), (graph.nodes[0], bad)), complaint)


def test_the_same_node_twice() -> None:
    graph = two_steps()
    copy = by_hand(graph.nodes[1])
    expect(replace(graph, nodes=(*graph.nodes, copy)), "an equal node comes before it")
    assert any("defined twice" in v for v in violations(replace(graph, nodes=(*graph.nodes, graph.nodes[2]))))


def test_unknown_sizes() -> None:
    def make() -> Made:
        x = input_(key="x", dtype=f32, shape=("B", UNKNOWN))
        return {"x": x}, {"y": neg(x)}, ()

    expect(finish(make), "input: a size is unknown in f32[B,?]", "neg: a size is unknown")


def test_output_outside_the_graph() -> None:
    graph, other = two_steps(), two_steps()
    expect(replace(graph, outputs={"z": other.outputs["z"]}), "output 'z' is not part of the graph")


def test_names() -> None:
    def make() -> Made:
        a = input_(key="x", dtype=f32, shape=(4,))
        b = input_(key="x", dtype=f32, shape=(1,))
        w = param(key="w", dtype=f32, shape=(4,))
        v = param(key="w", dtype=f32, shape=(1,))
        return {"x": a, "other": b}, {"y": add(add(a, b), add(w, v))}, ()

    expect(
        finish(make),
        "input 'x' is declared with two types",
        "param 'w' is declared with two types",
        "input 'other' is not an input node of that name",
    )
    graph = two_steps()
    expect(replace(graph, inputs={}), "input 'x' is not among the graph's inputs")
    expect(
        replace(graph, inputs={**graph.inputs, "y": graph.outputs["z"]}),
        "input 'y' is not an input node of that name",
    )


# -- linear use of states ---------------------------------------------------------------------------


def cache(write: Any) -> Graph:
    """A graph over one cache; `write(before, new, past, count)` returns (output, version after)."""

    def make() -> Made:
        new = input_(key="new", dtype=f32, shape=("B", "S", 2, 4))
        past, count = (input_(key=k, dtype=i32, shape=("B",)) for k in ("past", "count"))
        before = state(key="k", dtype=f32, shape=("B", 2, "C", 4))
        output, after = write(before, new, past, count)
        return {"new": new, "past": past, "count": count}, {"y": output}, (State("k", before, after),)

    return finish(make)


def read(q: Value, version: Value, past: Value, count: Value) -> Value:
    return cached_attention(q, version, version, past, count, scale=0.5)


def test_write_then_read_is_fine() -> None:
    def once(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        after = cache_append(before, new, past, count)
        return read(new, after, past, count), after

    def twice(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        middle = cache_append(before, new, past, count)
        after = cache_append(middle, neg(new), past, count)
        return read(new, after, past, count), after

    def only_read(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        return read(new, before, past, count), before

    for write in (once, twice, only_read):
        assert violations(cache(write)) == []


def test_reading_an_old_version_after_the_write() -> None:
    def write(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        after = cache_append(before, new, past, count)
        return add(read(new, after, past, count), read(new, before, past, count)), after

    expect(cache(write), "is written by cache_append, but its old version has other readers")


def test_two_writers() -> None:
    def write(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        after = cache_append(before, new, past, count)
        other = cache_append(before, neg(new), past, count)
        return add(read(new, after, past, count), read(new, other, past, count)), after

    expect(cache(write), "has 2 writers")


def test_a_state_that_ends_before_its_last_version() -> None:
    def write(before: Value, new: Value, past: Value, count: Value) -> tuple[Value, Value]:
        middle = cache_append(before, new, past, count)
        last = cache_append(middle, neg(new), past, count)
        return read(new, last, past, count), middle

    expect(cache(write), "state 'k' ends with a version that is written again")


def test_state_bindings() -> None:
    graph = decoder()
    (bound,) = graph.states
    expect(replace(graph, states=()), "state 'k' is not among the graph's states")
    expect(replace(graph, states=(bound, bound)), "state 'k' is declared twice")
    renamed, cut_short = (
        State("j", bound.before, bound.after),
        State("k", bound.before, graph.outputs["total"]),
    )
    expect(replace(graph, states=(renamed,)), "does not begin with a state node of that name")
    expect(replace(graph, states=(cut_short,)), "does not end with a state")
    expect(replace(graph, outputs={"y": bound.after}), "output 'y' is a state")


def test_all_violations_at_once() -> None:
    def make() -> Made:
        x = input_(key="x", dtype=f32, shape=("B", UNKNOWN))
        before = state(key="k", dtype=f32, shape=("B", 2, "C", 4))
        w = param(key="w", dtype=f32, shape=(4,))
        v = param(key="w", dtype=f32, shape=(1,))
        return {"other": neg(x)}, {"y": add(x, add(w, v)), "k": before}, ()

    graph = finish(make)
    found = violations(graph)
    assert len(found) == 7
    with pytest.raises(GraphError, match="breaks 7 rule") as caught:
        verify(graph)
    error = caught.value
    assert error.code == "RLX-I006" and error.where == "sample" and error.details["violations"] == found
    assert "(and 2 more)" in error.message and "details['violations']" in error.hint
