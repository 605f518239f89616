"""What became of each rule: where it applies, what it took, and why it did not take the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rlxflow.fusion.driver import RuleResult
from rlxflow.fusion.match import Miss
from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True, eq=False)
class RuleReport:
    """One rule. `expected` (from the recipe; None: not known) and `places` count where it applies, whoever
    takes it; `matched` is what it took.

    `refused` groups what its condition refused by reason; `inside` says how many places went to which larger
    rule; `off` says where the rule is switched off.
    """

    name: str
    matched: int
    places: int | None
    expected: int | None
    refused: tuple[tuple[int, str], ...] = ()
    inside: tuple[tuple[int, str], ...] = ()
    off: str = ""
    result: RuleResult | None = None

    @property
    def clean(self) -> bool:
        """Whether the rule found as many places as expected. What it then refused is the profile's will."""
        return self.expected is None or bool(self.off) or self.places == self.expected

    def misses(self) -> tuple[tuple[str, Miss], ...]:
        """The best near misses with the stage path of the place, closest first."""
        if self.result is None:
            return ()
        graph = self.result.search.snapshot.graph
        return tuple((graph.where(m.node) or graph.where(m.anchor), m) for m in self.result.misses)

    def missing(self) -> tuple[str, ...]:
        """The ops that the graph lacks, where no variant of the pattern can be in it; the least of them."""
        if self.result is None:
            return ()
        there = self.result.search.snapshot.by_op.keys()
        lacking = [pattern.ops - there for pattern in self.result.rule.patterns]
        return tuple(sorted(op.name for op in min(lacking, key=len, default=())))

    def note(self) -> str:
        """Why `matched` is what it is, in one line."""
        if self.off:
            return f"switched off ({self.off})"
        parts = [f"{count} refused: {reason}" for count, reason in self.refused]
        parts += [f"{count} inside {rule}" for count, rule in self.inside]
        if self.expected is not None and self.places is not None and self.places != self.expected:
            parts.insert(0, f"found {self.places} places, the recipe expects {self.expected}")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able data."""
        return {
            "rule": self.name,
            "matched": self.matched,
            "places": self.places,
            "expected": self.expected,
            "refused": [{"count": count, "reason": reason} for count, reason in self.refused],
            "inside": [{"count": count, "rule": rule} for count, rule in self.inside],
            "off": self.off or None,
            "near_misses": [
                {
                    "where": where,
                    "op": miss.pattern.op.name,
                    "node": miss.node.op.name,
                    "agreed": miss.agreed,
                    "of": len(miss.pattern.nodes),
                    "reason": miss.reason,
                }
                for where, miss in self.misses()
            ],
        }


def report_rules(
    rules: Iterable[Rule],
    off: Mapping[Rule, str],
    results: Iterable[RuleResult],
    expected: Mapping[str, int] | None,
    alone: Callable[[Rule], RuleResult],
) -> tuple[RuleReport, ...]:
    """A report per rule, most matches first.

    `alone` runs one rule without the others; it is asked only where expected counts are known.
    """
    by_rule = {result.rule: result for result in results}
    owners = {node: r.rule.name for r in by_rule.values() for match in r.matches for node in match.nodes}
    reports = []
    for rule in rules:
        wanted = None if expected is None else expected.get(rule.name, 0)
        if rule in off:
            reports.append(RuleReport(rule.name, 0, None, wanted, off=off[rule]))
        else:
            reports.append(_report(by_rule[rule], wanted, owners, alone))
    return tuple(sorted(reports, key=lambda r: (-r.matched, r.name)))


def _report(
    result: RuleResult,
    wanted: int | None,
    owners: Mapping[Node, str],
    alone: Callable[[Rule], RuleResult],
) -> RuleReport:
    rule, matched = result.rule, len(result.matches)
    refused = _refused(result)
    places, inside = matched + sum(refused.values()), Counter[str]()
    if wanted is not None:
        free = alone(rule)
        places = len(free.matches) + sum(_refused(free).values())
        inside.update(
            owner for match in free.matches if (owner := _owner(match.nodes, owners)) and owner != rule.name
        )
    return RuleReport(
        rule.name,
        matched,
        places,
        wanted,
        tuple((count, reason) for reason, count in refused.most_common()),
        tuple((count, owner) for owner, count in inside.most_common()),
        result=result,
    )


def _refused(result: RuleResult) -> Counter[str]:
    """Reason → places. Two variants of a pattern that were refused in one stage are one place."""
    return Counter(
        reason for _, reason in {(r.where or str(i), r.reason) for i, r in enumerate(result.refusals)}
    )


def _owner(nodes: Iterable[Node], owners: Mapping[Node, str]) -> str | None:
    """The rule that took these nodes, where one did."""
    return next((owners[n] for n in nodes if n in owners), None)
