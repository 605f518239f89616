"""FusionReport: what the pipeline did to a graph, and why not more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from rlxflow.errors import InputError, nearest
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rule_report import RuleReport
from rlxflow.ir.graph import Graph
from rlxflow.quick_dataclass import dataclass

MAX_MISSES = 4


@dataclass(frozen=True)
class Cost:
    """What a graph costs: `nodes` that compute (leaves not counted); `flops`, a multiply-add counted as two;
    `bytes_moved`, what the ops read and write if each goes to memory; `weight_bytes`, each param once."""

    nodes: int
    flops: int
    bytes_moved: int
    weight_bytes: int


@dataclass(frozen=True)
class PassReport:
    """One pass: nodes before and after, and where it is switched off."""

    name: str
    nodes_before: int
    nodes_after: int
    off: str = ""


@dataclass(frozen=True, eq=False)
class FusionReport:
    """What the pipeline did; `str()` is one screen, `as_dict()` is JSON-able.

    `graphs` are the program with everything `expanded`, as `fused`, and as it is `run` by the backend.
    `unclaimed` counts the fused ops that the backend does not run, so that they were expanded again.
    `costs` of the same three are told for `batch` and `seq`, where these are known.
    """

    name: str
    profile: str
    facts: Facts
    rules: tuple[RuleReport, ...]
    passes: tuple[PassReport, ...]
    notes: tuple[str, ...]
    graphs: Mapping[str, Graph] = field(repr=False)
    unclaimed: tuple[tuple[int, str], ...] = ()
    backend: str = ""
    batch: int | None = None
    seq: int | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every rule found as many places as the recipe expects."""
        return all(rule.clean for rule in self.rules)

    def rule(self, name: str) -> RuleReport:
        """The report of one rule; raises `InputError` (R071) for a name that no rule has."""
        known = {r.name: r for r in self.rules}
        if name not in known:
            hint = nearest(name, known) or f"rules: {', '.join(sorted(known))}"
            raise InputError(f"no rule {name!r}", code="RLX-R071", hint=hint)
        return known[name]

    def __str__(self) -> str:
        from rlxflow.fusion.report_text import report_text

        return report_text(self)

    def as_dict(self) -> dict[str, Any]:
        """The whole report as JSON-able data."""
        return {
            "name": self.name,
            "profile": self.profile,
            "backend": self.backend or None,
            "batch": self.batch,
            "seq": self.seq,
            "tokens": self.facts.tokens,
            "attention_threshold": {
                "value": self.facts.attention_threshold,
                "origin": self.facts.limit_origin,
            },
            "max_tokens": {rule: limit for rule, (limit, _) in self.facts.limits.items()},
            "clean": self.clean,
            "rules": [rule.as_dict() for rule in self.rules],
            "passes": [asdict(p) for p in self.passes],
            "unclaimed": [{"count": count, "op": op} for count, op in self.unclaimed],
            "notes": list(self.notes),
            "ops": {name: dict(op_counts(graph)) for name, graph in self.graphs.items()},
            "costs": {name: asdict(c) for name, c in self.costs.items()},
        }


def op_counts(graph: Graph) -> dict[str, int]:
    """How often each op stands in a graph, leaves left out, most frequent first."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if node.inputs:
            counts[node.op.name] = counts.get(node.op.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
