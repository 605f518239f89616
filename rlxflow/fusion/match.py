"""Matching: bind a pattern to a graph, then replay the decomposition to be sure.

The binding is a guess: it follows op names, wiring and bare attributes. The match counts only if running
`decompose` on the bound operands and attributes leads to the very same nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from rlxflow.errors import GraphError
from rlxflow.fusion.bind import Binder, Binding
from rlxflow.fusion.derived import is_derived
from rlxflow.fusion.trace import Pattern
from rlxflow.ir.graph import Graph, attrs_text
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True, eq=False)
class Match:
    """A pattern found: what its operands and attributes are bound to, and the nodes it would take.

    `anchor` is where it was looked for: its last node, or the consumer that gives its nodes their roles.
    """

    pattern: Pattern
    anchor: Node
    operands: tuple[Value | None, ...]
    attrs: dict[str, Any]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]

    def operand(self, name: str) -> Value | None:
        """The value bound to an operand of the fused op."""
        return self.operands[self.pattern.op.operand_names.index(name)]


@dataclass(frozen=True, eq=False)
class Miss:
    """A pattern not found: how many of its nodes agreed, where it stopped, and why."""

    pattern: Pattern
    anchor: Node
    agreed: int
    node: Node
    reason: str

    @property
    def share(self) -> float:
        return self.agreed / len(self.pattern.nodes)

    def __str__(self) -> str:
        return f"{self.agreed}/{len(self.pattern.nodes)} agree; {self.reason}"


Key = tuple[Any, ...]


def node_key(op: Op[..., Any], operands: tuple[Value | None, ...], attrs: Mapping[str, Any]) -> Key:
    """What makes two nodes the same; operands of a commutative op in any order."""
    if op.commutative:
        operands = tuple(sorted(operands, key=id))
    return (op, operands, attrs_text(attrs))


class Snapshot:
    """A graph with the look-ups that matching needs, and the nodes that matches have claimed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[Key, Node] = {node_key(n.op, n.operands, n.attrs): n for n in graph.nodes}
        self.position: dict[Node, int] = {n: i for i, n in enumerate(graph.nodes)}
        self.by_op: dict[Op[..., Any], list[Node]] = {}
        for node in graph.nodes:
            self.by_op.setdefault(node.op, []).append(node)
        states = [v for s in graph.states for v in (s.before, s.after)]
        self.kept = {*graph.outputs.values(), *states}
        self.claimed: dict[Node, Match] = {}

    def claim(self, match: Match) -> None:
        """Keep the nodes of a match from other matches; leaves may be in many."""
        self.claimed.update((n, match) for n in match.nodes if n.inputs)

    def unclaimed(self) -> Snapshot:
        """The same, as if nothing had been claimed."""
        other = copy(self)
        other.claimed = {}
        return other

    def find(self, pattern: Pattern, anchor: Node) -> Match | Miss:
        """The match of a pattern whose last node is `anchor`, or why there is none."""
        binder = Binder(pattern, anchor, self.claimed)
        verified: Miss | None = None
        for bound in binder:
            found = self._verify_bound(pattern, anchor, bound)
            if isinstance(found, Match):
                return found
            verified = verified or found
        return verified or Miss(pattern, anchor, *binder.best)

    def _verify_bound(self, pattern: Pattern, anchor: Node, bound: Binding) -> Match | Miss:
        attrs = dict(pattern.fixed)
        for name, spec in pattern.op.attrs.items():
            if name in bound.attrs:
                attrs[name] = bound.attrs[name]
            elif name not in attrs and spec.required:
                reason = f"[attribute] {name!r} does not follow from the graph"
                return Miss(pattern, anchor, len(pattern.nodes), anchor, reason)
            else:
                attrs.setdefault(name, spec.default)
        operands = tuple(None if s is None else bound.slots[s] for s in pattern.operands)
        found = self.verify(pattern, operands, attrs, anchor)
        if isinstance(found, Match) and anchor not in found.nodes:
            return Miss(pattern, anchor, len(pattern.nodes), anchor, "[replay] it gives another graph")
        return found

    def verify(
        self, pattern: Pattern, operands: tuple[Value | None, ...], attrs: dict[str, Any], anchor: Node
    ) -> Match | Miss:
        """The match with these operands and attributes, if replaying the pattern's function gives nodes of
        the graph that may be taken; else why not."""

        def miss(node: Node, reason: str) -> Miss:
            return Miss(pattern, anchor, len(pattern.nodes), node, reason)

        replay = _Replay(self)
        try:
            with emitting(replay):
                result = pattern.function(*operands, **{n: attrs[n] for n in pattern.taken})
            if not is_derived(pattern.op):
                pattern.op.infer(operands, attrs)
        except GraphError as error:
            return miss(anchor, f"[type] {error.message}")
        except _NotThere as error:
            return miss(anchor, f"[replay] it gives another graph: {error}")
        outputs = result if isinstance(result, tuple) else (result,)
        nodes = _needing(operands[0], replay.nodes) if pattern.spelled else tuple(replay.nodes)
        for node in nodes:
            if node in self.claimed:
                return miss(node, f"[use] {node.op.name} is part of another match")
        match = Match(pattern, anchor, operands, attrs, outputs, nodes)
        return self._read_outside(match, miss) or match

    def _read_outside(self, match: Match, miss: Callable[[Node, str], Miss]) -> Miss | None:
        """Interior values may not be read from outside: the fused op does not have them. And what it reads
        may not depend on what it gives."""
        inside, outputs = set(match.nodes), set(match.outputs)
        for node in match.nodes:
            for value in node.outputs:
                if value in outputs or not node.inputs:  # a leaf such as a constant can be made again
                    continue
                users = [n for n in self.graph.users.get(value, ()) if n not in inside]
                if users or value in self.kept:
                    reader = users[0].op.name if users else "an output of the graph"
                    return miss(node, f"[use] the result of {node.op.name} is also read by {reader}")
        looped = self._cycle(match, inside) if len(outputs) > 1 else None
        if looped is not None:
            return miss(looped, f"[cycle] it would depend on its own results, through {looped.op.name}")
        return None

    def _cycle(self, match: Match, inside: set[Node]) -> Node | None:
        """A node of the match that its operands depend on; a path to it stays after the first node."""
        first = min(self.position[n] for n in match.nodes if n.inputs)
        for value in match.operands:
            stack = [] if value is None else [value.node]
            seen: set[Node] = set()
            while stack:
                node = stack.pop()
                if node in inside and node.inputs:
                    return node
                if node not in seen and self.position[node] > first:
                    seen.add(node)
                    stack.extend(v.node for v in node.inputs)
        return None


def _needing(value: Value | None, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Of `nodes`, operands first, those that depend on a value.

    In another spelling the rest is preparation, such as a table in another layout; it may have other readers.
    """
    needing = {value}
    found = []
    for node in nodes:
        if needing.intersection(node.inputs):
            needing.update(node.outputs)
            found.append(node)
    return tuple(found)


class _NotThere(Exception):
    """The replay leads to a node that the graph does not have."""


class _Replay:
    """An emitter that only looks nodes up; expands what the graph does not have, where it can."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.nodes: dict[Node, None] = {}
        self._snapshot = snapshot

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands, attrs = op.bind(args, kwargs)
        node = self._snapshot.nodes.get(node_key(op, operands, attrs))
        if node is None:
            if op.decompose_fn is not None:
                op.infer(operands, attrs)  # it may refuse what its parts allow, such as broadcasting
                return op.decompose_fn(*operands, **attrs)
            raise _NotThere(f"it wants a {op.name} that is not there")
        self.nodes[node] = None
        return node.outputs[0] if len(node.outputs) == 1 else node.outputs
