"""A `FusionReport` as text: one screen, code and counts before words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rlxflow.fusion.report import MAX_MISSES, FusionReport, op_counts
from rlxflow.fusion.rule_report import RuleReport

WIDTH = 110


def report_text(report: FusionReport, rule: str | None = None) -> str:
    """The report; with `rule`, that rule alone and all its near misses."""
    shown = [report.rule(rule)] if rule is not None else list(report.rules)
    lines = [_head(report), "", *_rules(shown)]
    misses = [line for r in shown if _wants_misses(r) or rule is not None for line in _misses(r)]
    lines += misses[: None if rule is not None else MAX_MISSES]
    if len(shown) == 1 and not misses and shown[0].missing():
        lines.append(f"no place   the graph has no {' and no '.join(shown[0].missing())}")
    if rule is None:
        lines += ["", *_costs(report), "", *_wrapped("fused ops", _counts(report))]
        if report.unclaimed:
            lines += _wrapped("expanded", [f"{n} {op}" for n, op in report.unclaimed], report.backend)
        lines += _wrapped("passes", _passes(report))
        lines += [f"note       {note}" for note in report.notes]
    return "\n".join(lines)


def _head(report: FusionReport) -> str:
    tokens = report.facts.tokens
    size = "any batch and seq" if tokens is None else f"{tokens} tokens"
    if report.batch is not None:
        size = f"batch {report.batch} · seq {report.seq} = {size}"
    profile = f"profile {report.profile or 'made in Python'}"
    return "   ".join(
        filter(None, (report.name, size, profile, report.backend and f"backend {report.backend}"))
    )


def _rules(rules: Iterable[RuleReport]) -> list[str]:
    """A table; rules that have no place here, and none is expected, share one line."""
    shown = list(rules)
    idle = [r.name for r in shown if not (r.matched or r.expected or r.note()) and len(shown) > 1]
    width = max((len(r.name) for r in shown), default=4)
    lines = [f"{'rule':<{width}}  matched  expected  note"]
    for r in shown:
        if r.name in idle:
            continue
        expected = "" if r.expected is None else str(r.expected)
        head = f"{r.name:<{width}}  {r.matched:>7}  {expected:>8}  "
        note = textwrap.wrap(r.note(), WIDTH - len(head), break_on_hyphens=False) or [""]
        lines.append((head + note[0]).rstrip())
        lines += [" " * len(head) + more for more in note[1:]]
    return lines + (_wrapped("no place", idle) if idle else [])


def _wants_misses(r: RuleReport) -> bool:
    """Near misses matter where a rule found less than expected, or nothing at all."""
    return not r.clean or (r.expected is None and not r.matched and not r.refused and not r.off)


def _misses(r: RuleReport) -> list[str]:
    return [
        f"near miss  {r.name}  {where or 'no stage'}  {miss.reason}  "
        f"({miss.agreed} of {len(miss.pattern.nodes)} nodes agree)"
        for where, miss in r.misses()
    ]


def _costs(report: FusionReport) -> list[str]:
    if not report.costs:
        return [f"{name:<9}  {len(graph.nodes)} nodes" for name, graph in report.graphs.items()]
    lines = [f"{'':<9}  {'nodes':>6}  {'FLOP':>8}  {'bytes moved':>11}  {'weights':>8}"]
    for name, c in report.costs.items():
        flops, moved, weights = map(_amount, (c.flops, c.bytes_moved, c.weight_bytes))
        lines.append(f"{name:<9}  {c.nodes:>6}  {flops:>8}  {moved:>11}  {weights:>8}")
    return lines


def _amount(count: int) -> str:
    """`3.44 G`, in powers of 1000."""
    number = float(count)
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {unit}".rstrip()
        number /= 1000
    return f"{number:,.3g} T"


def _counts(report: FusionReport) -> list[str]:
    return [f"{count} {name}" for name, count in op_counts(report.graphs["fused"]).items()]


def _passes(report: FusionReport) -> list[str]:
    changed = [
        f"{p.name} off ({p.off})" if p.off else f"{p.name} {p.nodes_before}→{p.nodes_after}"
        for p in report.passes
        if p.off or p.nodes_before != p.nodes_after
    ]
    return changed or ["none changed the number of nodes"]


def _wrapped(label: str, parts: Iterable[str], not_claimed_by: str = "") -> list[str]:
    text = " · ".join(part.replace(" ", "\u00a0") for part in parts)
    text += f" again: {not_claimed_by} does not run them" if not_claimed_by else ""
    lines = textwrap.wrap(text, WIDTH - 11, break_on_hyphens=False)
    return [f"{label if i == 0 else '':<9}  {line}".replace("\u00a0", " ") for i, line in enumerate(lines)]
