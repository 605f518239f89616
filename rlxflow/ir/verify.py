"""The verifier: every violation of a graph's rules, in one list."""

from __future__ import annotations

from collections import Counter

from rlxflow.errors import GraphError
from rlxflow.ir.dims import UNKNOWN, shapes_agree
from rlxflow.ir.graph import Graph, attrs_text
from rlxflow.ir.values import Node, Type, Value

LEAVES = ("input", "param", "state")  # the ops that a key names


def violations(graph: Graph) -> list[str]:
    """What is wrong with a graph, one line each; empty when it is valid.

    Checked: operands come before users; each node's operands and attributes fit its op, and its types are
    what the op infers; no node occurs twice; every size is known; inputs, weights and states have unique
    names and are the nodes they claim to be; a state value is consumed at most once by a writer and, once
    written, read by nobody else, so that every write may happen in place.
    """
    found: list[str] = []
    defined: set[Value] = set()
    seen: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        label = _label(graph, node)
        twin = seen.setdefault((node.op, node.operands, *node.attrs.values()), node)
        if twin is not node and attrs_text(twin.attrs) == attrs_text(node.attrs):
            found.append(f"{label}: an equal node comes before it")
        undefined = [v for v in node.inputs if v not in defined]
        found += [f"{label}: operand {v!r} is not defined before its use" for v in undefined]
        found += [f"{label}: defined twice" for v in node.outputs[:1] if v in defined]
        defined.update(node.outputs)
        if not undefined:
            found += _type_violations(node, label)
    found += [
        f"output {name!r} is not part of the graph" for name, v in graph.outputs.items() if v not in defined
    ]
    return found + _name_violations(graph) + _state_violations(graph, defined)


def verify(graph: Graph) -> Graph:
    """The graph itself; raises `GraphError` listing all violations."""
    found = violations(graph)
    if found:
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise GraphError(
            f"graph {graph.name!r} breaks {len(found)} rule(s): " + "; ".join(found[:5]) + more,
            code="RLX-I006",
            where=graph.name,
            hint="read details['violations'] for the whole list",
            details={"violations": found},
        )
    return graph


def _label(graph: Graph, node: Node) -> str:
    where = graph.where(node)
    return f"{node.op.name} ({where})" if where else node.op.name


def _type_violations(node: Node, label: str) -> list[str]:
    try:
        operands, attrs = node.op.bind(node.operands, dict(node.attrs))
        inferred = node.op.infer(operands, attrs)
    except GraphError as error:
        return [f"{label}: {error.message}"]
    found = [f"{label}: a size is unknown in {t}" for t in inferred if UNKNOWN in t.shape]
    declared = tuple(v.type for v in node.outputs)
    same = inferred == declared or (
        len(inferred) == len(declared)
        and all(
            a.dtype == b.dtype and a.state == b.state and shapes_agree(a.shape, b.shape)
            for a, b in zip(inferred, declared, strict=True)
        )
    )
    if not same:
        found.append(f"{label}: declares {_types(declared)}, its rule gives {_types(inferred)}")
    return found


def _types(types: tuple[Type, ...]) -> str:
    return ", ".join(map(str, types))


def _name_violations(graph: Graph) -> list[str]:
    found = []
    keys: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op.name in LEAVES:
            name = f"{node.op.name} {node.attrs.get('key')!r}"
            if keys.setdefault(name, node) is not node:
                found.append(f"{name} is declared with two types")
        if node.op.name == "input" and node.outputs[0] not in graph.inputs.values():
            found.append(f"input {node.attrs.get('key')!r} is not among the graph's inputs")
    for name, value in graph.inputs.items():
        if value.node.op.name != "input" or value.node.attrs.get("key") != name:
            found.append(f"input {name!r} is not an input node of that name")
    return found


def _state_violations(graph: Graph, defined: set[Value]) -> list[str]:
    found = []
    writers = {v: [n for n in users if _writes(n)] for v, users in graph.users.items() if v.type.state}
    for value, nodes in writers.items():
        if len(nodes) > 1:
            found.append(f"state {value!r} has {len(nodes)} writers")
        elif nodes and len(graph.users[value]) > 1:
            found.append(
                f"state {value!r} is written by {nodes[0].op.name}, but its old version has other readers"
            )
    for name, value in graph.outputs.items():
        if value.type.state:
            found.append(f"output {name!r} is a state")
    declared = Counter(s.name for s in graph.states)
    found += [f"state {name!r} is declared twice" for name, count in declared.items() if count > 1]
    begun = {s.before for s in graph.states}
    for state in graph.states:
        if state.before.node.op.name != "state" or state.before.node.attrs.get("key") != state.name:
            found.append(f"state {state.name!r} does not begin with a state node of that name")
        if state.after not in defined or not state.after.type.state:
            found.append(f"state {state.name!r} does not end with a state of the graph")
        elif writers.get(state.after):
            found.append(f"state {state.name!r} ends with a version that is written again")
    for node in graph.nodes:
        if node.op.name == "state" and node.outputs[0] not in begun:
            found.append(f"state {node.attrs.get('key')!r} is not among the graph's states")
    return found


def _writes(node: Node) -> bool:
    return any(out.type.state for out in node.outputs)
