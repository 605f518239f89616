"""Rewriting: every match becomes its fused op, in one rebuild of the graph."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from rlxflow.errors import FusionError
from rlxflow.fusion.match import Match
from rlxflow.fusion.rule import Rule
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Value

Step = Node | Match


class CycleOfMatches(Exception):
    """Matches that read each other's results; `match`, of `rule`, is the one to give up."""

    def __init__(self, rule: Rule, match: Match, others: Iterable[Match]) -> None:
        names = ", ".join(sorted({m.pattern.op.name for m in others}))
        super().__init__(f"[cycle] it would read, and be read by, a match of {names}")
        self.rule = rule
        self.match = match


def replace_matches(graph: Graph, taken: list[tuple[Rule, Match]]) -> Graph:
    """The graph with each match as one node; stage paths of what it consumed are united on it.

    Raises `CycleOfMatches` where matches would need each other's results.
    """
    rules = {match: rule for rule, match in taken}
    owner: dict[Node, Match] = {n: m for m in rules for n in m.nodes if n.inputs}
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for step in _order(graph, owner, rules):
            operands = tuple(None if v is None else moved[v] for v in step.operands)
            if isinstance(step, Match):
                paths = dict.fromkeys(p for n in step.nodes for p in graph.stages.get(n, ()))
                with builder.scope(*paths):
                    made = _emit(rules[step], step, operands, builder)
                _want_types(rules[step], step, made, paths)
            else:
                with builder.scope(*graph.stages.get(step, ())):
                    made = builder.node(step.op, operands, step.attrs).outputs
            moved.update(zip(step.outputs, made, strict=True))
    return builder.finish(
        graph.name,
        {name: moved[v] for name, v in graph.inputs.items()},
        {name: moved[v] for name, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
    )


def _emit(
    rule: Rule, match: Match, operands: tuple[Value | None, ...], builder: GraphBuilder
) -> tuple[Value, ...]:
    if rule.emit is None:
        return builder.node(match.pattern.op, operands, match.attrs).outputs
    return rule.emitted(operands, match.attrs)


def _want_types(rule: Rule, match: Match, made: tuple[Value, ...], paths: Iterable[str]) -> None:
    """What a rule puts in place must be of the types that it takes away."""
    ours, wanted = (tuple(str(v.type) for v in values) for values in (made, match.outputs))
    if ours != wanted:
        raise FusionError(
            f"rule {rule.name!r} puts {', '.join(ours)} where the graph has {', '.join(wanted)}",
            code="RLX-U020",
            where=next(iter(paths), ""),
            hint=f"what the body of {match.pattern.op.name!r} returns must be the type of its decomposition",
        )


def _order(graph: Graph, owner: Mapping[Node, Match], rules: Mapping[Match, Rule]) -> list[Step]:
    """Nodes and matches, operands first, otherwise in the order of the graph."""
    steps: dict[Step, int] = {}
    for position, node in enumerate(graph.nodes):
        steps[owner.get(node, node)] = position
    waiting: dict[Step, int] = {}
    readers: dict[Step, list[Step]] = {}
    for step in steps:
        sources = _sources(step, owner)
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
    if len(ordered) < len(steps):
        raise _cycle({s for s in steps if waiting[s]}, owner, rules)
    return ordered


def _sources(step: Step, owner: Mapping[Node, Match]) -> set[Step]:
    return {owner.get(v.node, v.node) for v in step.operands if v is not None}


def _cycle(stuck: set[Step], owner: Mapping[Node, Match], rules: Mapping[Match, Rule]) -> CycleOfMatches:
    """Follow what is waited for until a step comes twice; the match taken last on that circle gives way."""
    path: dict[Step, None] = {}
    step = next(iter(stuck))
    while step not in path:
        path[step] = None
        step = next(s for s in _sources(step, owner) if s in stuck)
    circle = list(path)[list(path).index(step) :]
    matches = [m for m in rules if m in circle]
    return CycleOfMatches(rules[matches[-1]], matches[-1], matches[:-1])
