"""The pipeline: from the graph that stages emitted to the few, large ops that a backend runs.

expand ─ clean up ─ fuse ─ sink the last token ─ legalise ─ elementwise regions ─ hoist weight expressions
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

from rlxflow.errors import FusionError, GraphError
from rlxflow.fusion.driver import RuleResult, fuse
from rlxflow.fusion.folding import fold_constants
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.regions import form_regions
from rlxflow.fusion.report import FusionReport, PassReport
from rlxflow.fusion.rule import Facts, Rule
from rlxflow.fusion.rule_report import report_rules
from rlxflow.fusion.rules import all_rules, checked_rules
from rlxflow.fusion.simplify import fold_scale, fold_unit_offset, merge_equal, remove_no_ops
from rlxflow.fusion.sink import sink_last_token
from rlxflow.fusion.weight_time import WeightView, hoist
from rlxflow.garbage import uncollected
from rlxflow.ir.builder import rebuild
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node, Type
from rlxflow.ir.verify import verify
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import Weights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

Claims = Callable[[Node], bool]
OnPass = Callable[[str, Graph, Graph], None]  # name, graph before, graph after


@dataclass(frozen=True, eq=False)
class Optimized:
    """The result of the pipeline: the graph a backend compiles, the expressions behind its derived weights,
    the graph as fused before legalising, and the report."""

    graph: Graph
    expressions: Mapping[str, Graph]
    fused: Graph
    results: tuple[RuleResult, ...]
    report: FusionReport

    def weights(self, stored: Weights) -> WeightView:
        """What the graph's params read: stored tensors and derived ones."""
        return WeightView(stored, self.expressions)


@dataclass(frozen=True)
class TokenRange:
    """A half-open interval of tokens = batch · seq that one plan serves; `stop` None: no upper end."""

    start: int
    stop: int | None

    def __contains__(self, tokens: int) -> bool:
        return self.start <= tokens and (self.stop is None or tokens < self.stop)

    @property
    def tokens(self) -> int | None:
        """What stands for the range: limits are largest allowed values, so its last number. None: any."""
        if self.stop is not None:
            return self.stop - 1
        return None if self.start == 1 else self.start

    def __str__(self) -> str:
        return f"[{self.start}, {'∞' if self.stop is None else self.stop})"


def token_ranges(
    profile: CompileProfile, runs: Callable[[Op[..., Any]], bool] | None = None
) -> tuple[TokenRange, ...]:
    """The plans that a profile makes: the limits of its rules cut 1, 2, … where a rule changes its mind.

    `runs` says which ops a backend may run: rules that make none of them change nothing for it.
    """
    limits = set()
    for rule in all_rules():
        limit = _limit(profile, rule)
        wanted = limit is not None and not _rule_off(profile, rule.name)
        if wanted and (runs is None or any(runs(op) for op in rule.makes)):
            limits.add(limit or 0)
    starts = [1, *(limit + 1 for limit in sorted(limits) if limit > 0)]
    return tuple(TokenRange(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True))


def _limit(profile: CompileProfile, rule: Rule) -> int | None:
    """The largest batch · seq at which a rule applies; None: any."""
    single = profile.passes.max_tokens.limits().get(rule.name)
    if single is not None or not rule.small_input:
        return single
    return profile.fusion.attention_threshold


def facts_for(profile: CompileProfile, tokens: int | None) -> Facts:
    """What rules may know of a plan for so many tokens (None: any number)."""

    def told(key: str) -> str:
        return f"{key}, {profile.origin(key)}"

    single = {
        rule: (limit, told(f"passes.max_tokens.{rule}"))
        for rule, limit in profile.passes.max_tokens.limits().items()
    }
    threshold = profile.fusion.attention_threshold
    return Facts(tokens, threshold, told("fusion.attention_threshold"), single)


@uncollected()
def optimize(
    graph: Graph,
    profile: CompileProfile,
    facts: Facts | None = None,
    claims: Claims | None = None,
    *,
    expected: Mapping[str, int] | None = None,
    rules: Iterable[Rule] | None = None,
    limit: int | None = None,
    on_pass: OnPass | None = None,
) -> Optimized:
    """Run every pass that the profile wants.

    `claims` says what the backend runs; without it nothing is expanded again. `expected` are a recipe's
    counts of the places where each rule applies. `limit` allows only so many rewrites. `on_pass` is called
    after each pass. Raises `FusionError` for the pass that breaks the graph (U020).
    """
    facts = facts or facts_for(profile, None)
    run = _Passes(graph, on_pass)
    run.step("expand", lambda g, _: rebuild(g, lambda op: op.decompose_fn is not None))
    expanded = run.graph
    run.step("remove-no-ops", remove_no_ops)
    run.step("fold-constants", fold_constants, _off(profile, "passes.constant_folding"))
    run.step("merge-equal", merge_equal)
    run.step("fold-unit-offset", fold_unit_offset)
    run.step("fold-scale", fold_scale)
    if not profile.passes.dce:
        run.notes.append(("dce", "passes.dce = false has no effect: a graph never holds a dead node"))
    known = all_rules() if rules is None else checked_rules(rules)
    off = {r: why for r in known if (why := _rule_off(profile, r.name))}
    before = run.graph
    results: list[RuleResult] = []

    def fuse_rules(g: Graph, _: list[str]) -> Graph:
        fused, found = fuse(g, [r for r in known if r not in off], facts, limit)
        results.extend(found)
        return fused if any(r.matches for r in found) else g

    run.step("fuse", fuse_rules)
    fused = run.graph
    if claims is not None:
        run.step("legalise", lambda g, _: legalize(g, claims))
        run.step("remove-no-ops", remove_no_ops)  # what packing joined and expanding cut again
    run.step("sink-last-token", sink_last_token)
    regions_off = _off(profile, "backend.cpu.unfuse_regions", wanted=False)
    run.step("elementwise-regions", lambda g, _: form_regions(g, claims), regions_off)
    expressions: dict[str, Graph] = {}

    def hoist_weights(g: Graph, _: list[str]) -> Graph:
        hoisted = hoist(g)
        expressions.update(hoisted.expressions)
        return hoisted.graph

    run.step("hoist-weights", hoist_weights)
    report = FusionReport(
        name=graph.name,
        profile=profile.source,
        facts=facts,
        rules=report_rules(known, off, results, expected, partial(_alone, before, facts)),
        passes=tuple(run.reports),
        notes=tuple(f"{name}: {note}" for name, note in dict.fromkeys(run.notes)),
        graphs={"expanded": expanded, "fused": hoist(fused).graph, "run": run.graph},
        unclaimed=_unclaimed(fused, claims),
    )
    return Optimized(run.graph, expressions, fused, tuple(results), report)


def _unclaimed(graph: Graph, claims: Claims | None) -> tuple[tuple[int, str], ...]:
    composite = (n for n in graph.nodes if n.op.decompose_fn is not None)
    counts = Counter(n.op.name for n in composite if claims is not None and not claims(n))
    return tuple((count, name) for name, count in counts.most_common())


def _alone(graph: Graph, facts: Facts, rule: Rule) -> RuleResult:
    """What a rule finds where no other takes anything."""
    return fuse(graph, [rule], facts)[1][0]


def _off(profile: CompileProfile, key: str, wanted: bool = True) -> str:
    """Where a switch is set that leaves a pass out, or an empty string."""
    return "" if profile.values()[key] is wanted else f"{key}, {profile.origin(key)}"


def _rule_off(profile: CompileProfile, name: str) -> str:
    """Where a rule is switched off; rules that a profile does not name are on."""
    if profile.fusion.skip:
        return f"fusion.skip, {profile.origin('fusion.skip')}"
    key = f"passes.rules.{name}"
    return _off(profile, key) if key in profile.values() else ""


@dataclass
class _Passes:
    """The graph on its way, and what each pass did to it."""

    graph: Graph
    on_pass: OnPass | None
    reports: list[PassReport] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def step(self, name: str, run: Callable[[Graph, list[str]], Graph], off: str = "") -> None:
        """Run a pass, unless `off` says where it is switched off."""
        before, notes = self.graph, list[str]()
        if not off:
            try:
                self.graph = run(before, notes)
            except GraphError as error:
                raise _broken(name, error.message, error.where, error.details) from error
        if self.graph is not before:
            if _interface(self.graph) != _interface(before):
                raise _broken(name, "inputs, outputs or states have other types than before", before.name, {})
            try:
                verify(self.graph)
            except GraphError as error:
                raise _broken(name, error.message, error.where, error.details) from error
        self.reports.append(PassReport(name, len(before.nodes), len(self.graph.nodes), off))
        self.notes += [(name, note) for note in notes]
        if self.on_pass is not None:
            self.on_pass(name, before, self.graph)


def _interface(graph: Graph) -> tuple[dict[str, Type], dict[str, Type], list[tuple[str, Type]]]:
    return (
        {name: v.type for name, v in graph.inputs.items()},
        {name: v.type for name, v in graph.outputs.items()},
        [(s.name, s.after.type) for s in graph.states],
    )


def _broken(name: str, problem: str, where: str, details: dict[str, Any]) -> FusionError:
    return FusionError(
        f"pass {name!r} broke the graph: {problem}",
        code="RLX-U020",
        where=where,
        hint="find the rule with `rlxflow explain --fuse-limit N`, and switch it off in [passes.rules]",
        details=details,
    )
