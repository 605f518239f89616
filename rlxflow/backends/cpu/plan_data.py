"""A plan as plain data, for the cache on disk: without its steps, of which there is code already.

Its graph is cut down to what the table and the checks name: weights, what is computed from them, and what is
computed before a call. Outputs are left as leaves of their types, so that callers see what they are.
"""

from __future__ import annotations

from typing import Any

from rlxflow.backends.cpu.arena import Arena, Slot
from rlxflow.backends.cpu.plan import Constant, GatherCheck, Given, Made, Plan
from rlxflow.backends.cpu.scratch import Scratch
from rlxflow.ir.dims import dim
from rlxflow.ir.graph import Graph, State, live_nodes
from rlxflow.ir.text import parse_graph, print_graph
from rlxflow.ir.values import Node, Value
from rlxflow.ops.leaves import input_

NAMED = "#"  # begins the names of the values that a plan refers to


def plan_to_data(graph: Graph, plan: Plan) -> dict[str, Any]:
    """What `plan_from_data` takes; JSON can hold it."""
    numbers: dict[Value, int] = {}

    def number(value: Value) -> int:
        return numbers.setdefault(value, len(numbers))

    def entry(item: Constant | Given | Made) -> list[Any]:
        if isinstance(item, Constant):
            return ["constant", item.kind, [number(v) for v in item.values], item.form]
        if isinstance(item, Made):
            return ["made", number(item.value)]
        return ["given", item.kind, item.name, item.offset]

    table = [entry(item) for item in plan.table]
    checks = [
        [c.ids if isinstance(c.ids, str) else number(c.ids), c.per_token, c.rows, c.outputs]
        for c in plan.checks
    ]
    return {
        "table": table,
        "checks": checks,
        "graph": print_graph(_cut_down(graph, numbers)),
        "labels": plan.labels,
        "slots": [[s.rows, s.stride, s.before, s.fixed] for s in plan.arena.slots],
        "scratch": [plan.scratch.fixed, plan.scratch.per_token, plan.scratch.lanes],
        "outputs": plan.outputs,
        "validity": plan.validity,
        "lengths": plan.lengths,
        "axes": [str(axis) for axis in plan.axes],
    }


def _cut_down(graph: Graph, numbers: dict[Value, int]) -> Graph:
    """The values that have numbers and what they need, as outputs beside leaves for the graph's own."""
    leaves = {
        name: Node(input_, (), {"key": name, "dtype": v.dtype, "shape": v.shape}, (v.type,)).outputs[0]
        for name, v in graph.outputs.items()
    }
    outputs = leaves | {f"{NAMED}{n}": value for value, n in numbers.items()}
    states = tuple(State(s.name, s.before, s.before) for s in graph.states)
    every = (*graph.nodes, *(v.node for v in leaves.values()))
    return Graph(graph.name, graph.inputs, outputs, states, live_nodes(every, graph.inputs, outputs, states))


def plan_from_data(data: dict[str, Any]) -> tuple[Graph, Plan]:
    """The cut-down graph and the plan; raises what comes of it for other data."""
    whole = parse_graph(data["graph"])
    outputs = {name: v for name, v in whole.outputs.items() if not name.startswith(NAMED)}
    graph = Graph(whole.name, whole.inputs, outputs, whole.states, whole.nodes)

    def value(number: int) -> Value:
        return whole.outputs[f"{NAMED}{number}"]

    def entry(kind: str, *rest: Any) -> Constant | Given | Made:
        if kind == "constant":
            return Constant(rest[0], tuple(value(n) for n in rest[1]), rest[2])
        return Made(value(*rest)) if kind == "made" else Given(*rest)

    lengths = data["lengths"]
    return graph, Plan(
        labels=tuple(data["labels"]),
        arena=Arena(tuple(Slot(r, stride, tuple(b), f) for r, stride, b, f in data["slots"]), {}),
        scratch=Scratch(*data["scratch"]),
        table=tuple(entry(*row) for row in data["table"]),
        outputs=tuple(data["outputs"]),
        checks=tuple(
            GatherCheck(ids if isinstance(ids, str) else value(ids), *rest) for ids, *rest in data["checks"]
        ),
        validity=tuple(data["validity"]),
        lengths=None if lengths is None else (lengths[0], lengths[1]),
        axes=tuple(dim(axis) for axis in data["axes"]),
    )
