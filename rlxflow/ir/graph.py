"""The graph: named inputs, named outputs, states, and every node in a valid order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

from rlxflow.dtypes import DType
from rlxflow.errors import GraphError, nearest
from rlxflow.ir.dims import Sym, shape_text
from rlxflow.ir.values import Node, Type, Value
from rlxflow.quick_dataclass import dataclass

Provenance = Mapping[Node, tuple[str, ...]]


@dataclass(frozen=True)
class State:
    """A buffer carried from call to call: its value before the call and after it."""

    name: str
    before: Value
    after: Value


@dataclass(frozen=True, eq=False)
class Graph:
    """An immutable program.

    `nodes` holds what outputs and states need, plus the declared inputs, operands before users.
    `stages` says which stage paths emitted a node; it is a side table and no part of the digest.
    """

    name: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    states: tuple[State, ...] = ()
    nodes: tuple[Node, ...] = ()
    stages: Provenance = field(default_factory=dict)

    @cached_property
    def params(self) -> Mapping[str, Value]:
        """Weight key → value, in order of first use."""
        return {n.attrs["key"]: n.outputs[0] for n in self.nodes if n.op.name == "param"}

    @cached_property
    def users(self) -> Mapping[Value, tuple[Node, ...]]:
        """Value → nodes that read it (each once), in order."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    @cached_property
    def use_counts(self) -> Mapping[Value, int]:
        """Value → how often it is read, counting each operand, each output and each state."""
        states = [v for s in self.states for v in (s.before, s.after)]
        operands = [v for node in self.nodes for v in node.inputs]
        return Counter([*operands, *self.outputs.values(), *states])

    @cached_property
    def digest(self) -> str:
        """Content hash (hex): equal for equal programs on any machine, in whatever order they were built."""
        return graph_digest(self)

    def count(self, op_name: str) -> int:
        """How many nodes apply `op_name`."""
        return sum(1 for n in self.nodes if n.op.name == op_name)

    def where(self, node: Node) -> str:
        """The stage paths of a node, for messages."""
        return ", ".join(self.stages.get(node, ()))

    def select(self, outputs: Iterable[str]) -> Graph:
        """The same program with fewer outputs; nodes only the others needed are dropped.

        Raises `GraphError` for a name that is not an output.
        """
        kept = {}
        for name in outputs:
            if name not in self.outputs:
                hint = nearest(name, self.outputs) or f"outputs: {', '.join(self.outputs)}"
                raise GraphError(f"no output {name!r}", code="RLX-I011", where=self.name, hint=hint)
            kept[name] = self.outputs[name]
        return Graph(
            self.name,
            self.inputs,
            kept,
            self.states,
            live_nodes(self.nodes, self.inputs, kept, self.states),
            self.stages,
        )

    def __str__(self) -> str:
        from rlxflow.ir.text import print_graph

        return print_graph(self)


def live_nodes(
    nodes: Iterable[Node],
    inputs: Mapping[str, Value],
    outputs: Mapping[str, Value],
    states: tuple[State, ...],
) -> tuple[Node, ...]:
    """Of `nodes` (operands before users) those that outputs, states and declared inputs need, same order."""
    ordered = list(nodes)
    live = {v.node for v in (*inputs.values(), *outputs.values())}
    for state in states:
        live |= {state.before.node, state.after.node}
    for node in reversed(ordered):
        if node in live:
            live.update(v.node for v in node.inputs)
    return tuple(node for node in ordered if node in live)


def attr_text(value: object) -> str:
    """An attribute in the one spelling used by the text form and by digests."""
    spell = _SPELLINGS.get(type(value), repr)
    return spell(value)


def _string_text(value: str) -> str:
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return '"' + value.encode("unicode_escape").decode().replace('"', '\\"') + '"'


_SPELLINGS: dict[type, Callable[[Any], str]] = {
    str: _string_text,
    DType: lambda value: f"!{value.name}",
    Sym: lambda value: f"<{value}>",
    bytes: lambda value: f"x'{value.hex()}'",
    tuple: lambda value: "(" + " ".join([attr_text(v) for v in value]) + ")",
}


def attrs_text(attrs: Mapping[str, object]) -> str:
    """All attributes of a node, sorted by name; tells apart 1, 1.0 and True, and 0.0 and -0.0."""
    return " ".join([f"{name}={attr_text(value)}" for name, value in sorted(attrs.items())])


def type_text(t: Type) -> str:
    return f"{'state ' if t.state else ''}{t.dtype}{shape_text(t.shape)}"


def graph_digest(graph: Graph) -> str:
    """blake2b over nodes in dependency form (op, attributes, operand digests), outputs and states."""
    digests: dict[Value, bytes] = {}
    for node in graph.nodes:
        h = hashlib.blake2b(f"{node.op.name}\0{attrs_text(node.attrs)}".encode(), digest_size=16)
        operands = [b"" if operand is None else digests[operand] for operand in node.operands]
        for digest in sorted(operands) if node.op.commutative else operands:
            h.update(b"\1" + digest)
        base = h.digest()
        for value in node.outputs:
            digests[value] = base + bytes([value.index])
    h = hashlib.blake2b(digest_size=16)
    for name, value in sorted(graph.inputs.items()):
        h.update(f"input {attr_text(name)}".encode() + digests[value])
    for name, value in sorted(graph.outputs.items()):
        h.update(f"output {attr_text(name)}".encode() + digests[value])
    for state in sorted(graph.states, key=lambda s: s.name):
        h.update(f"state {attr_text(state.name)}".encode() + digests[state.before] + digests[state.after])
    return h.hexdigest()
