"""Binding: walk a pattern and a graph together from the anchor up, operands and attributes being collected.

A commutative op may fit in two ways, and choices multiply, so there is a budget of steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from rlxflow.fusion.trace import AttrVar, Pattern, PatternNode, Slot, Wild
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass

MAX_STEPS = 2_000


@dataclass
class Binding:
    """What is bound so far, and the pattern values that are still to be compared with values."""

    todo: list[tuple[Slot, Value]]
    slots: dict[Slot, Value]
    attrs: dict[str, Any]
    nodes: dict[PatternNode, Node]

    def copy(self) -> Binding:
        return Binding(list(self.todo), dict(self.slots), dict(self.attrs), dict(self.nodes))


class Binder:
    """Iterates over the ways to bind a pattern whose last node is `anchor`.

    `best` tells how the attempt that came furthest ended: nodes that agreed, where it stopped, and why.
    """

    def __init__(self, pattern: Pattern, anchor: Node, claimed: Container[Node]) -> None:
        self._pattern = pattern
        self._anchor = anchor
        self._claimed = claimed
        self.best = (0, anchor, "")

    def __iter__(self) -> Iterator[Binding]:
        stack: list[Binding] = []
        self._enter(self._pattern.anchor, self._anchor, Binding([], {}, {}, {}), stack)
        for _ in range(MAX_STEPS):
            if not stack:
                return
            binding = stack.pop()
            if not binding.todo:
                yield binding
                continue
            slot, value = binding.todo.pop()
            self._step(slot, value, binding, stack)
        self.best = (self.best[0], self._anchor, f"gave up after {MAX_STEPS} steps")

    def _step(self, slot: Slot, value: Value, binding: Binding, stack: list[Binding]) -> None:
        """Bind one pattern value, and push what follows from it."""
        known = binding.slots.get(slot)
        if known is not None:
            if known is not value:
                what = f"operand {slot.name!r}" if slot.node is None else f"a {slot.node.op.name}"
                return self._fail(binding, value.node, f"{what} is two different values")
            return stack.append(binding)
        binding.slots[slot] = value
        if slot.node is None:
            return stack.append(binding)
        seen = binding.nodes.get(slot.node)
        if value.index != slot.index or (seen is not None and seen is not value.node):
            reason = f"{value.node.op.name} gives it result {value.index} where {slot.index} is wanted"
            return self._fail(binding, value.node, reason)
        if seen is not None:
            return stack.append(binding)
        return self._enter(slot.node, value.node, binding, stack)

    def _enter(self, pattern: PatternNode, node: Node, binding: Binding, stack: list[Binding]) -> None:
        """Bind a node: op and attributes; push one binding per order of its operands that may fit."""
        reason = self._differs(pattern, node, binding)
        if reason:
            return self._fail(binding, node, reason)
        binding.nodes[pattern] = node
        orders = [node.operands]
        if pattern.op.commutative and node.operands[0] is not node.operands[1]:
            orders.append(node.operands[::-1])
        fitting = [o for o in orders if may_fit(pattern, o, binding)] or orders[:1]
        for i, operands in enumerate(reversed(fitting)):  # the order written is tried first
            last = i == len(fitting) - 1
            choice = binding if last else binding.copy()
            pairs = zip(pattern.operands, operands, strict=True)
            choice.todo.extend((s, v) for s, v in pairs if s is not None and v is not None)
            stack.append(choice)
        return None

    def _differs(self, pattern: PatternNode, node: Node, binding: Binding) -> str:
        if node.op is not pattern.op:
            return f"[op] expected {pattern.op.name}, found {node.op.name}"
        if node in self._claimed:
            return f"[use] {node.op.name} is part of another match"
        return attrs_differ(pattern, node, binding.attrs) or operands_differ(pattern, node)

    def _fail(self, binding: Binding, node: Node, reason: str) -> None:
        if len(binding.nodes) > self.best[0]:
            self.best = (len(binding.nodes), node, reason)


def attrs_differ(pattern: PatternNode, node: Node, bound: dict[str, Any]) -> str:
    """The first attribute that does not agree, or an empty string; variables of the pattern bind."""
    for name, wanted in pattern.attrs.items():
        if not _attr(wanted, node.attrs[name], bound):
            shown = bound.get(wanted.name) if isinstance(wanted, AttrVar) else wanted
            return f"[attribute] {node.op.name} has {name} = {node.attrs[name]!r}, expected {shown!r}"
    return ""


def operands_differ(pattern: PatternNode, node: Node) -> str:
    """Whether a node has the operands that the pattern has, as words; empty where it has."""
    if len(node.operands) != len(pattern.operands):
        return f"[operand] {node.op.name} has {len(node.operands)} operands, not {len(pattern.operands)}"
    names = node.op.operand_names
    for i, (slot, value) in enumerate(zip(pattern.operands, node.operands, strict=True)):
        if (slot is None) != (value is None):
            return f"[operand] {node.op.name} {'has a' if slot is None else 'lacks its'} {names[i]}"
    return ""


def may_fit(pattern: PatternNode, operands: tuple[Value | None, ...], binding: Binding) -> bool:
    """A look one step ahead: whether operands come from the ops that the pattern has there."""
    for slot, value in zip(pattern.operands, operands, strict=True):
        if slot is None or value is None:
            continue
        if slot.node is not None and slot.node.op is not value.node.op:
            return False
        if binding.slots.get(slot, value) is not value:
            return False
    return True


def _attr(wanted: Any, found: Any, bound: dict[str, Any]) -> bool:
    if isinstance(wanted, AttrVar):
        return bool(bound.setdefault(wanted.name, found) == found)
    if isinstance(wanted, Wild):
        return True
    if isinstance(wanted, tuple):
        same = isinstance(found, tuple) and len(wanted) == len(found)
        return same and all(_attr(w, f, bound) for w, f in zip(wanted, found, strict=True))
    return bool(wanted == found)
