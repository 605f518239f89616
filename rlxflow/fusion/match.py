"""Matching: bind a pattern to a graph, then replay the decomposition to be sure.

The binding is a guess: it follows op names, wiring and bare attributes. The match counts only if running
`decompose` on the bound operands and attributes leads to the very same nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlxflow.errors import GraphError
from rlxflow.fusion.trace import AttrVar, Pattern, PatternNode, Slot, Wild
from rlxflow.ir.graph import Graph, attrs_text
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Node, Value

MAX_STEPS = 2_000  # of one binding; commutative ops make choices, and choices multiply


@dataclass(frozen=True, eq=False)
class Match:
    """A pattern found: what its operands and attributes are bound to, and the nodes it would take."""

    pattern: Pattern
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


Key = tuple[Any, ...]


def node_key(op: Op[..., Any], operands: tuple[Value | None, ...], attrs: Mapping[str, Any]) -> Key:
    """What makes two nodes the same; operands of a commutative op in any order."""
    if op.commutative:
        operands = tuple(sorted(operands, key=id))
    return (op, operands, attrs_text(attrs))


class Snapshot:
    """A graph with the look-ups that matching needs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[Key, Node] = {node_key(n.op, n.operands, n.attrs): n for n in graph.nodes}
        self.by_op: dict[Op[..., Any], list[Node]] = {}
        for node in graph.nodes:
            self.by_op.setdefault(node.op, []).append(node)
        states = [v for s in graph.states for v in (s.before, s.after)]
        self.kept = {*graph.outputs.values(), *states}

    def find(self, pattern: Pattern, anchor: Node, claimed: set[Node]) -> Match | Miss:
        """The match of a pattern whose last node is `anchor`, or why there is none."""
        bound = _bind(pattern, anchor, claimed)
        if isinstance(bound, Miss):
            return bound
        return self._verify(pattern, anchor, bound)

    def _verify(self, pattern: Pattern, anchor: Node, bound: _Binding) -> Match | Miss:
        size = len(pattern.nodes)
        attrs = {n: pattern.fixed.get(n, bound.attrs.get(n)) for n in pattern.op.attrs}
        unknown = [n for n in pattern.op.attrs if n not in pattern.fixed and n not in bound.attrs]
        if unknown:
            return Miss(
                pattern, anchor, size, anchor, f"attribute {unknown[0]!r} does not follow from the graph"
            )
        operands = tuple(None if s is None else bound.slots[s] for s in pattern.operands)
        replay = _Replay(self)
        try:
            with emitting(replay):
                assert pattern.op.decompose_fn is not None
                result = pattern.op.decompose_fn(*operands, **attrs)
            pattern.op.infer(operands, attrs)
        except GraphError as error:
            return Miss(pattern, anchor, size, anchor, error.message)
        except _NotThere as error:
            return Miss(pattern, anchor, size, anchor, f"replayed, it gives another graph: {error}")
        outputs = result if isinstance(result, tuple) else (result,)
        if anchor not in replay.nodes:
            return Miss(pattern, anchor, size, anchor, "replayed, it gives another graph")
        return self._guard(Match(pattern, operands, attrs, outputs, tuple(replay.nodes)), anchor)

    def _guard(self, match: Match, anchor: Node) -> Match | Miss:
        """Interior values may not be read from outside: the fused op does not have them."""
        inside, outputs = set(match.nodes), set(match.outputs)
        for node in match.nodes:
            for value in node.outputs:
                if value in outputs or not node.inputs:  # a leaf such as a constant can be made again
                    continue
                users = [n for n in self.graph.users.get(value, ()) if n not in inside]
                if users or value in self.kept:
                    reader = users[0].op.name if users else "an output of the graph"
                    reason = f"the result of {node.op.name} is also read by {reader}"
                    return Miss(match.pattern, anchor, len(inside), node, reason)
        return match


@dataclass(slots=True)
class _Binding:
    todo: list[tuple[Slot, Value]]
    slots: dict[Slot, Value]
    attrs: dict[str, Any]
    nodes: dict[PatternNode, Node]


def _bind(pattern: Pattern, anchor: Node, claimed: set[Node]) -> _Binding | Miss:
    """Depth-first over the pattern from its anchor; a commutative op is tried in both orders."""
    start = _Binding([], {}, {}, {})
    miss = Miss(pattern, anchor, 0, anchor, "")
    reason = _enter(pattern.anchor, anchor, start, claimed)
    if reason:
        return Miss(pattern, anchor, 0, anchor, reason)
    stack = [start]
    for _ in range(MAX_STEPS):
        if not stack:
            return miss
        binding = stack.pop()
        if not binding.todo:
            return binding
        slot, value = binding.todo.pop()
        other = _swapped(binding, slot, value, claimed)
        reason = _step(binding, slot, value, claimed)
        if other is not None:
            stack.append(other)
        if not reason:
            stack.append(binding)
        elif len(binding.nodes) > miss.agreed:
            miss = Miss(pattern, anchor, len(binding.nodes), value.node, reason)
    return Miss(pattern, anchor, miss.agreed, anchor, f"gave up after {MAX_STEPS} steps")


def _step(binding: _Binding, slot: Slot, value: Value, claimed: set[Node], swap: bool = False) -> str:
    """Bind one pattern value; the reason why not, or an empty string."""
    known = binding.slots.get(slot)
    if known is not None:
        return "" if known is value else f"operand {slot.name or slot.node} is two different values"
    if slot.node is None:
        binding.slots[slot] = value
        return ""
    if value.index != slot.index:
        return f"reads result {value.index} of {value.node.op.name}, not {slot.index}"
    seen = binding.nodes.get(slot.node)
    if seen is not None:
        return "" if seen is value.node else f"two different {seen.op.name} where the pattern has one"
    reason = _enter(slot.node, value.node, binding, claimed, swap)
    if not reason:
        binding.slots[slot] = value
    return reason


def _swapped(binding: _Binding, slot: Slot, value: Value, claimed: set[Node]) -> _Binding | None:
    """The other choice where a commutative op is about to be entered."""
    node = slot.node
    if node is None or not node.op.commutative or node.op is not value.node.op or slot in binding.slots:
        return None
    copy = _Binding(list(binding.todo), dict(binding.slots), dict(binding.attrs), dict(binding.nodes))
    return None if _step(copy, slot, value, claimed, swap=True) else copy


def _enter(
    pattern: PatternNode, node: Node, binding: _Binding, claimed: set[Node], swap: bool = False
) -> str:
    """Bind a node: op, attributes; its operands are left to do."""
    if node.op is not pattern.op:
        return f"expected {pattern.op.name}, found {node.op.name}"
    if node in claimed:
        return f"{node.op.name} is part of another match"
    if len(node.operands) != len(pattern.operands):
        return f"{node.op.name} has {len(node.operands)} operands, not {len(pattern.operands)}"
    for name, wanted in pattern.attrs.items():
        if not _attr(wanted, node.attrs[name], binding.attrs):
            return f"{node.op.name} has {name} = {node.attrs[name]!r}, expected {wanted!r}"
    operands = node.operands[::-1] if swap else node.operands
    for slot, value in zip(pattern.operands, operands, strict=True):
        if (slot is None) != (value is None):
            return f"{node.op.name} {'has' if slot is None else 'lacks'} an optional operand"
        if slot is not None and value is not None:
            binding.todo.append((slot, value))
    binding.nodes[pattern] = node
    return ""


def _attr(wanted: Any, found: Any, bound: dict[str, Any]) -> bool:
    if isinstance(wanted, AttrVar):
        return bool(bound.setdefault(wanted.name, found) == found)
    if isinstance(wanted, Wild):
        return True
    if isinstance(wanted, tuple):
        same = isinstance(found, tuple) and len(wanted) == len(found)
        return same and all(_attr(w, f, bound) for w, f in zip(wanted, found, strict=True))
    return bool(wanted == found)


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
                return op.decompose_fn(*operands, **attrs)
            raise _NotThere(f"it wants a {op.name} that is not there")
        self.nodes[node] = None
        return node.outputs[0] if len(node.outputs) == 1 else node.outputs
