"""The driver: collect matches on one snapshot, largest first; rebuild once."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlxflow.fusion.match import Match, Miss, Snapshot
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.fusion.trace import Pattern
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Value


@dataclass(frozen=True, slots=True)
class Refusal:
    """A match that was found and not taken: the stage it is in, and why."""

    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class RuleResult:
    """What became of one rule: matches taken, matches refused, and the best near misses."""

    rule: Rule
    matches: tuple[Match, ...]
    refusals: tuple[Refusal, ...]
    misses: tuple[Miss, ...]


def fuse(
    graph: Graph, rules: Iterable[Rule], facts: Facts | None = None, limit: int | None = None
) -> tuple[Graph, list[RuleResult]]:
    """The graph with every match replaced by its fused op, and what each rule did.

    Patterns are tried largest first, whatever rule they come from; what a large one does not take, smaller
    ones get. With `limit`, only that many rewrites are made (to find the one that changes the numbers).
    """
    ordered = list(rules)
    search = _Search(graph, facts or Facts(), limit)
    patterns = [(pattern, rule) for rule in ordered for pattern in rule.patterns]
    for pattern, rule in sorted(patterns, key=lambda p: -len(p[0].nodes)):
        search.run(pattern, rule)
    taken = search.taken
    fused = replace_matches(graph, [m for matches in taken.values() for m in matches])
    return fused, [
        RuleResult(r, tuple(taken[r]), tuple(search.refusals[r]), search.best_misses(r)) for r in ordered
    ]


class _Search:
    def __init__(self, graph: Graph, facts: Facts, limit: int | None) -> None:
        self.snapshot = Snapshot(graph)
        self.facts = facts
        self.fuel = limit
        self.claimed: set[Node] = set()
        self.taken: dict[Rule, list[Match]] = defaultdict(list)
        self.refusals: dict[Rule, list[Refusal]] = defaultdict(list)
        self._misses: dict[Rule, dict[Node, Miss]] = {}

    def run(self, pattern: Pattern, rule: Rule) -> None:
        for anchor in self.snapshot.by_op.get(pattern.anchor.op, ()):
            if anchor in self.claimed or self.fuel == 0:
                continue
            found = self.snapshot.find(pattern, anchor, self.claimed)
            if isinstance(found, Match):
                self._take(rule, found, anchor)
            else:
                self._note(rule, found)

    def _take(self, rule: Rule, match: Match, anchor: Node) -> None:
        reason = rule.allow(match, self.facts) if rule.allow is not None else None
        if reason is not None:
            self.refusals[rule].append(Refusal(self.snapshot.graph.where(anchor), reason))
            return
        self.claimed.update(n for n in match.nodes if n.inputs)
        self.taken[rule].append(match)
        if self.fuel is not None:
            self.fuel -= 1

    def _note(self, rule: Rule, miss: Miss) -> None:
        """Keep, per anchor, the variant that came furthest."""
        best = self._misses.setdefault(rule, {})
        if miss.agreed > 1 and (miss.anchor not in best or best[miss.anchor].agreed < miss.agreed):
            best[miss.anchor] = miss

    def best_misses(self, rule: Rule, count: int = 3) -> tuple[Miss, ...]:
        """The near misses of a rule, closest first, at anchors that no match took."""
        open_ones = [m for a, m in self._misses.get(rule, {}).items() if a not in self.claimed]
        share = sorted(open_ones, key=lambda m: -m.agreed / len(m.pattern.nodes))
        return tuple(share[:count])


def replace_matches(graph: Graph, matches: list[Match]) -> Graph:
    """The graph with each match as one node; stage paths of what it consumed are united on it."""
    owner: dict[Node, Match] = {n: m for m in matches for n in m.nodes if n.inputs}
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for step in _order(graph, owner):
            operands = tuple(None if v is None else moved[v] for v in step.operands)
            if isinstance(step, Match):
                paths = dict.fromkeys(p for n in step.nodes for p in graph.stages.get(n, ()))
                with builder.scope(*paths):
                    made = builder.node(step.pattern.op, operands, step.attrs)
                moved.update(zip(step.outputs, made.outputs, strict=True))
            else:
                with builder.scope(*graph.stages.get(step, ())):
                    made = builder.node(step.op, operands, step.attrs)
                moved.update(zip(step.outputs, made.outputs, strict=True))
    return builder.finish(
        graph.name,
        {name: moved[v] for name, v in graph.inputs.items()},
        {name: moved[v] for name, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
    )


Step = Node | Match


def _order(graph: Graph, owner: Mapping[Node, Match]) -> list[Step]:
    """Nodes and matches, operands first, otherwise in the order of the graph."""
    steps: dict[Step, int] = {}
    for position, node in enumerate(graph.nodes):
        steps[owner.get(node, node)] = position
    waiting: dict[Step, int] = {}
    readers: dict[Step, list[Step]] = {}
    for step in steps:
        sources = {owner.get(v.node, v.node) for v in step.operands if v is not None}
        waiting[step] = len(sources)
        for source in sources:
            readers.setdefault(source, []).append(step)
    ready = [(position, i, s) for i, (s, position) in enumerate(steps.items()) if not waiting[s]]
    heapq.heapify(ready)
    ordered: list[Step] = []
    ids = {s: i for i, s in enumerate(steps)}
    while ready:
        _, _, step = heapq.heappop(ready)
        ordered.append(step)
        for reader in readers.get(step, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, (steps[reader], ids[reader], reader))
    return ordered
