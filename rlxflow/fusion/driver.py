"""The driver: collect matches on one snapshot, largest first; rebuild once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from rlxflow.fusion.match import Match, Miss, Snapshot
from rlxflow.fusion.near import near_misses
from rlxflow.fusion.replace import CycleOfMatches, replace_matches
from rlxflow.fusion.rule import Facts, Finder, Rule
from rlxflow.fusion.trace import Pattern
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Refusal:
    """A match that was found and not taken: the stage it is in, and why."""

    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class RuleResult:
    """What became of one rule: matches taken, matches refused; near misses are looked for on demand."""

    rule: Rule
    matches: tuple[Match, ...]
    refusals: tuple[Refusal, ...]
    search: _Search

    @cached_property
    def misses(self) -> tuple[Miss, ...]:
        """The best near misses, closest first."""
        return self.search.misses(self.rule)[:3]


def fuse(
    graph: Graph, rules: Iterable[Rule], facts: Facts | None = None, limit: int | None = None
) -> tuple[Graph, list[RuleResult]]:
    """The graph with every match replaced by its fused op, and what each rule did.

    Patterns are tried largest first, whatever rule they come from; what a large one does not take, smaller
    ones get. Rules that make primitives out of other spellings come first, on a round of their own. With
    `limit`, only that many rewrites are made (to find the one that changes the numbers).
    """
    ordered = list(rules)
    facts = facts or Facts()
    results: dict[Rule, RuleResult] = {}
    for group in ([r for r in ordered if r.canonicalises], [r for r in ordered if not r.canonicalises]):
        graph, search = _round(graph, group, facts, limit)
        for r in group:
            results[r] = RuleResult(r, tuple(search.taken[r]), tuple(search.refusals[r].values()), search)
        if limit is not None:
            limit -= sum(len(search.taken[r]) for r in group)
    return graph, [results[r] for r in ordered]


def _round(graph: Graph, rules: list[Rule], facts: Facts, limit: int | None) -> tuple[Graph, _Search]:
    banned: dict[tuple[Rule, Node], str] = {}
    while True:
        search = _Search(graph, facts, limit, banned)
        search.run(rules)
        taken = [(rule, match) for rule, matches in search.taken.items() for match in matches]
        if not taken:
            return graph, search
        try:
            return replace_matches(graph, taken), search
        except CycleOfMatches as error:  # two matches, each fine alone, that would need each other
            banned[error.rule, error.match.anchor] = str(error)


class _Search:
    def __init__(
        self, graph: Graph, facts: Facts, limit: int | None, banned: dict[tuple[Rule, Node], str]
    ) -> None:
        self.snapshot = Snapshot(graph)
        self.facts = facts
        self.fuel = limit
        self.taken: dict[Rule, list[Match]] = defaultdict(list)
        self.refusals: dict[Rule, dict[Node, Refusal]] = defaultdict(dict)
        self._banned = banned
        self._found: dict[Rule, set[Node]] = defaultdict(set)  # nodes of its matches, taken or refused
        self._finder_misses: dict[Rule, list[Miss]] = defaultdict(list)

    def run(self, rules: list[Rule]) -> None:
        """Try everything, largest first. A finder comes after patterns of the size of its op, since these
        see more of what is around it."""
        tries: list[tuple[float, Rule, Pattern | Finder]] = []
        for rule in rules:
            found = {f.op: f for f in rule.finders}
            for op, finder in found.items():
                tries.append((0.5 - max(len(p.nodes) for p in rule.patterns if p.op is op), rule, finder))
            tries += [(-len(p.nodes), rule, p) for p in rule.patterns if p.op not in found]
        for _, rule, what in sorted(tries, key=lambda t: t[0]):
            if isinstance(what, Finder):
                self._run_finder(what, rule)
            elif what.ops <= self.snapshot.by_op.keys():
                self._run_pattern(what, rule)

    def _run_pattern(self, pattern: Pattern, rule: Rule) -> None:
        claimed = self.snapshot.claimed
        for anchor in self.snapshot.by_op[pattern.anchor.op]:
            if anchor in claimed or not pattern.may_end_at(anchor):
                continue
            found = self.snapshot.find(pattern, anchor)
            if isinstance(found, Match):
                self._take(rule, found)

    def _run_finder(self, finder: Finder, rule: Rule) -> None:
        for consumer in (n for op in finder.consumers for n in self.snapshot.by_op.get(op, ())):
            proposal = finder.propose(consumer)
            if proposal is None or consumer in self.snapshot.claimed:
                continue
            if isinstance(proposal, str):
                largest = next(p for p in rule.patterns if p.op is finder.op)
                self._finder_misses[rule].append(Miss(largest, consumer, 0, consumer, proposal))
                continue
            pattern = rule.variant(finder.op, proposal.operands)
            found = self.snapshot.verify(pattern, proposal.operands, proposal.attrs, consumer)
            if isinstance(found, Match):
                self._take(rule, found)
            else:
                self._finder_misses[rule].append(found)

    def _take(self, rule: Rule, match: Match) -> None:
        self._found[rule].update(n for n in match.nodes if n.inputs)
        reason = self._banned.get((rule, match.anchor))
        if reason is None:
            reason = rule.refuses(match, self.facts)
        if reason is None:
            reason = self.facts.beyond(rule)
        if reason:
            refusal = Refusal(self.snapshot.graph.where(match.anchor), reason)
            self.refusals[rule].setdefault(match.anchor, refusal)
        elif reason is None and self.fuel != 0:
            self.snapshot.claim(match)
            self.taken[rule].append(match)
            self.fuel = None if self.fuel is None else self.fuel - 1

    def misses(self, rule: Rule) -> tuple[Miss, ...]:
        """The near misses of a rule, closest first."""
        return (*near_misses(rule, self.snapshot, self._found[rule]), *self._finder_misses[rule])
