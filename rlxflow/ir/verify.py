"""The verifier: every violation of a graph's rules, in one list."""

from __future__ import annotations

from rlxflow.errors import GraphError
from rlxflow.ir.dims import shapes_agree
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value


def violations(graph: Graph) -> list[str]:
    """What is wrong with a graph, one line each; empty when it is valid.

    Checked: operands come before users; each node's types are what its op infers; names of inputs and
    weights are unique; a state value is consumed at most once by a writer and, once written, read by
    nobody else, so that every write may happen in place.
    """
    found: list[str] = []
    defined: set[Value] = set()
    for node in graph.nodes:
        label = _label(graph, node)
        undefined = [v for v in node.inputs if v not in defined]
        found += [f"{label}: operand {v!r} is not defined before its use" for v in undefined]
        defined.update(node.outputs)
        if not undefined:
            found += _type_violations(node, label)
    found += [
        f"output {name!r} is not part of the graph" for name, v in graph.outputs.items() if v not in defined
    ]
    return found + _name_violations(graph) + _state_violations(graph)


def verify(graph: Graph) -> Graph:
    """The graph itself; raises `GraphError` listing all violations."""
    found = violations(graph)
    if found:
        raise GraphError(
            f"graph {graph.name!r} breaks {len(found)} rule(s): " + "; ".join(found[:5]),
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
        inferred = node.op.infer(
            node.operands,
            {n: s.check(node.op.name, node.attrs.get(n, s.default)) for n, s in node.op.attrs.items()},
        )
    except GraphError as error:
        return [f"{label}: {error.message}"]
    declared = tuple(v.type for v in node.outputs)
    same = len(inferred) == len(declared) and all(
        a.dtype == b.dtype and a.state == b.state and shapes_agree(a.shape, b.shape)
        for a, b in zip(inferred, declared, strict=True)
    )
    return [] if same else [f"{label}: declares {declared}, its rule gives {inferred}"]


def _name_violations(graph: Graph) -> list[str]:
    found = []
    keys: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op.name in ("param", "input"):
            name = f"{node.op.name} {node.attrs['key']!r}"
            if keys.setdefault(name, node) is not node:
                found.append(f"{name} is declared with two types")
    for name, value in graph.inputs.items():
        if value.node.op.name != "input" or value.node.attrs["key"] != name:
            found.append(f"input {name!r} is not an input node of that name")
    return found


def _state_violations(graph: Graph) -> list[str]:
    found = []
    for value, users in graph.users.items():
        if not value.type.state:
            continue
        writers = [n for n in users if any(out.type.state for out in n.outputs)]
        if len(writers) > 1:
            found.append(f"state {value!r} has {len(writers)} writers")
        elif writers and len(users) > 1:
            found.append(
                f"state {value!r} is written by {writers[0].op.name}, but its old version has other readers"
            )
    names = [s.name for s in graph.states]
    found += [f"state {n!r} is declared twice" for n in sorted({n for n in names if names.count(n) > 1})]
    return found
