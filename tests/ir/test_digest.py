"""Digests: equal for equal programs in any order and process, different for any change of meaning."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from graph_samples import SAMPLES, decoder, encoder, graphs
from hypothesis import given, settings, strategies as st

from rlxflow.dtypes import DType, bf16
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import Sym
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.values import Node, Value


def emitted_in_another_order(graph: Graph, seed: int) -> Graph:
    """The same nodes, emitted in a random order in which operands still come first."""
    rng, builder = random.Random(seed), GraphBuilder()
    moved: dict[Value, Value] = {}
    waiting = list(graph.nodes)
    while waiting:
        ready = [n for n in waiting if all(v in moved for v in n.inputs)]
        node = rng.choice(ready)
        waiting.remove(node)
        operands = tuple(None if v is None else moved[v] for v in node.operands)
        made = builder.node(node.op, operands, dict(node.attrs))
        moved.update(zip(node.outputs, made.outputs, strict=True))
    inputs, outputs = list(graph.inputs.items()), list(graph.outputs.items())
    rng.shuffle(inputs)
    rng.shuffle(outputs)
    states = tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states)
    return builder.finish(
        "another name", {k: moved[v] for k, v in inputs}, {k: moved[v] for k, v in outputs}, states
    )


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("seed", range(5))
def test_samples_do_not_depend_on_order_or_name(name: str, seed: int) -> None:
    graph = SAMPLES[name]()
    assert emitted_in_another_order(graph, seed).digest == graph.digest


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 1000))
def test_random_graphs_do_not_depend_on_order(graph: Graph, seed: int) -> None:
    assert emitted_in_another_order(graph, seed).digest == graph.digest


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if abs(value) != float("inf") else 0.0
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, DType):
        return bf16
    if isinstance(value, Sym):
        return value + 1
    return (*value, 7)


def replaced(graph: Graph, index: int, attrs: dict[str, Any], operands: list[Value | None]) -> Graph:
    """The graph with another node at one place, made by hand; its users are made anew."""
    moved: dict[Value, Value] = {}
    nodes = []
    for i, node in enumerate(graph.nodes):
        own = operands if i == index else list(node.operands)
        new = Node(
            node.op,
            tuple(None if v is None else moved[v] for v in own),
            attrs if i == index else node.attrs,
            tuple(v.type for v in node.outputs),
        )
        nodes.append(new)
        moved.update(zip(node.outputs, new.outputs, strict=True))
    return Graph(
        graph.name,
        {k: moved[v] for k, v in graph.inputs.items()},
        {k: moved[v] for k, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
        tuple(nodes),
    )


def edits(graph: Graph) -> list[tuple[str, Graph]]:
    found = []
    for i, node in enumerate(graph.nodes):
        same = list(node.operands)
        for name, value in node.attrs.items():
            found.append((f"{i}.{name}", replaced(graph, i, {**node.attrs, name: changed(value)}, same)))
        for j, operand in enumerate(node.operands):
            if operand is not None and len(set(node.operands)) > 1:
                other = next(v for v in node.operands if v is not operand)
                swapped = [*same[:j], other, *same[j + 1 :]]
                found.append((f"{i}#{j}", replaced(graph, i, dict(node.attrs), swapped)))
        for operand in node.inputs:
            if len(operand.node.outputs) > 1:
                sibling = operand.node.outputs[1 - operand.index]
                switched = [sibling if v is operand else v for v in same]
                found.append((f"{i}/{operand.index}", replaced(graph, i, dict(node.attrs), switched)))
    return found


@pytest.mark.parametrize("sample", [encoder, decoder])
def test_any_change_of_an_attribute_or_operand_changes_it(sample: Any) -> None:
    graph = sample()
    assert replaced(graph, 0, dict(graph.nodes[0].attrs), []).digest == graph.digest  # the copying is sound
    digests = {name: g.digest for name, g in edits(graph)}
    assert len(digests) > 40
    assert [name for name, digest in digests.items() if digest == graph.digest] == []


def test_bindings_are_part_of_it() -> None:
    graph = decoder()
    base = {"inputs": graph.inputs, "outputs": graph.outputs, "states": graph.states}
    state = graph.states[0]
    for part, value in {
        "inputs": {("y" if k == "x" else k): v for k, v in graph.inputs.items()},
        "outputs": {("t" if k == "total" else k): v for k, v in graph.outputs.items()},
        "states": (State("j", state.before, state.after),),
    }.items():
        other = Graph(graph.name, nodes=graph.nodes, **{**base, part: value})  # type: ignore[arg-type]
        assert other.digest != graph.digest
    swapped = dict(zip(graph.outputs, reversed(graph.outputs.values()), strict=True))
    assert Graph(graph.name, graph.inputs, swapped, graph.states, graph.nodes).digest != graph.digest


PROGRAM = """
import graph_samples
from rlxflow.ir.text import print_graph
for make in graph_samples.SAMPLES.values():
    graph = make()
    print(graph.digest, hash(print_graph(graph)) and len(print_graph(graph)))
"""


def test_processes_agree() -> None:
    here = Path(__file__).parent
    root = here.parent.parent
    printed = set()
    for seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(map(str, (root, here)))}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
        )
        printed.add(done.stdout)
    assert len(printed) == 1
    assert [line.split()[0] for line in printed.pop().splitlines()] == [f().digest for f in SAMPLES.values()]
