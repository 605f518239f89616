"""Near misses: why a pattern that is almost there was not found.

The strict search stops at the first difference. Here a pattern and a graph are walked together past every
difference, so that the variant and place with most agreement are named. Only reports ask for this.
"""

from __future__ import annotations

from rlxflow.fusion.bind import Binding, attrs_differ, may_fit, operands_differ
from rlxflow.fusion.match import Miss, Snapshot
from rlxflow.fusion.rule import Rule
from rlxflow.fusion.trace import Pattern, PatternNode, Slot
from rlxflow.ir.values import Node, Value


def near_misses(rule: Rule, snapshot: Snapshot, found: set[Node]) -> list[Miss]:
    """Per anchor the variant of a rule that came furthest, where at least half of its nodes agree.

    Left out is what contains nodes of matches that the rule itself `found`, and anchors that a match took
    which is as large as the pattern.
    """
    best: dict[Node, Miss] = {}
    for pattern in rule.patterns:
        if any(f.op is pattern.op for f in rule.finders):
            continue
        for anchor in snapshot.by_op.get(pattern.anchor.op, ()):
            owner = snapshot.claimed.get(anchor)
            if anchor in found or (owner is not None and len(owner.nodes) >= len(pattern.nodes)):
                continue
            miss = tolerant(pattern, anchor, snapshot, found)
            if miss is not None and miss.share >= 0.5 and (anchor not in best or _better(miss, best[anchor])):
                best[anchor] = miss
    return sorted(best.values(), key=lambda m: -m.share)


def _better(a: Miss, b: Miss) -> bool:
    return (a.share, a.agreed) > (b.share, b.agreed)


def tolerant(pattern: Pattern, anchor: Node, snapshot: Snapshot, found: set[Node]) -> Miss | None:
    """How many nodes of a pattern are above `anchor`, and the first difference that the walk meets.

    None where nodes agree that are `found` already.
    """
    walk = _Walk()
    walk.enter(pattern.anchor, anchor, "")
    while walk.todo:
        walk.step(*walk.todo.pop())
    if any(n in found for n in walk.agreeing if n.inputs):
        return None
    if walk.first is not None:
        return Miss(pattern, anchor, walk.agreed, *walk.first)
    strict = snapshot.unclaimed().find(pattern, anchor)
    if isinstance(strict, Miss):
        return strict
    owner = next((snapshot.claimed[n] for n in strict.nodes if n in snapshot.claimed), None)
    if owner is None:  # nothing stands in its way but a limit on rewrites
        return None
    reason = f"[use] nodes of it are part of a {owner.pattern.op.name}"
    return Miss(pattern, anchor, walk.agreed, anchor, reason)


class _Walk:
    """Pattern values still to be compared, each with the value found and the words for its reader."""

    def __init__(self) -> None:
        self.todo: list[tuple[Slot, Value, str]] = []
        self.agreeing: list[Node] = []
        self.first: tuple[Node, str] | None = None
        self.extra = 0  # nodes of the graph that the pattern does not have
        self._entered: set[PatternNode] = set()
        self._seen = Binding([], {}, {}, {})

    @property
    def agreed(self) -> int:
        return max(0, len(self.agreeing) - self.extra)

    def step(self, slot: Slot, value: Value, reader: str) -> None:
        known = self._seen.slots.get(slot)
        if known is value:
            return
        if known is not None:
            self._differs(value.node, f"[operand] {reader}not the {known.node.op.name} that other uses have")
        self._seen.slots[slot] = value
        if slot.node is not None and slot.node not in self._entered:  # a wrong value may have come first
            self.enter(slot.node, value.node, reader)

    def enter(self, wanted: PatternNode, node: Node, reader: str) -> None:
        reason = self._reason(wanted, node, reader)
        if not reason:
            self._entered.add(wanted)
            self.agreeing.append(node)
            return self._above(wanted, node)
        self._differs(node, reason)
        missing = next((s.node for s in wanted.operands if s and s.node and s.node.op is node.op), None)
        if missing is not None:  # the graph has nothing where the pattern has `wanted`
            if missing not in self._entered:
                self.enter(missing, node, reader)
        elif (behind := self._behind(node, wanted)) is not None:
            self.enter(wanted, behind, reader)
        elif len(node.operands) == len(wanted.operands):
            self._above(wanted, node)
        return None

    def _behind(self, node: Node, wanted: PatternNode) -> Node | None:
        """A node of the wanted op behind up to three others with one operand each, such as casts."""
        for extra in range(1, 4):
            if len(node.inputs) != 1:
                return None
            node = node.inputs[0].node
            if node.op is wanted.op:
                self.extra += extra
                return node
        return None

    def _above(self, wanted: PatternNode, node: Node) -> None:
        """Go on with the operands, those of a commutative op in the order that fits."""
        operands = node.operands
        if wanted.op.commutative and not may_fit(wanted, operands, self._seen):
            flipped = operands[::-1]
            operands = flipped if may_fit(wanted, flipped, self._seen) else operands
        names = node.op.operand_names
        for i, (slot, value) in enumerate(zip(wanted.operands, operands, strict=False)):
            if slot is not None and value is not None:
                name = names[i] if i < len(names) else str(i)
                self.todo.append((slot, value, f"{node.op.name} operand {name!r}: "))

    def _reason(self, wanted: PatternNode, node: Node, reader: str) -> str:
        if node.op is not wanted.op:
            return f"[op] {reader}expected {wanted.op.name}, found {node.op.name}"
        return attrs_differ(wanted, node, self._seen.attrs) or operands_differ(wanted, node)

    def _differs(self, node: Node, reason: str) -> None:
        self.first = self.first or (node, reason)
