"""Checking rewrites by numbers: each against the nodes it took, and a search for the first wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.backends.reference.program import Program
from rlxflow.dtypes import Array, f32
from rlxflow.fusion.driver import RuleResult
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.match import Match
from rlxflow.fusion.rule import Rule
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import bind_shape, names
from rlxflow.ir.graph import Graph, State, attrs_text
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Type, Value
from rlxflow.ops.leaves import input_, param, state
from rlxflow.ops.shape import gather
from rlxflow.quick_dataclass import dataclass

SIZES = {"B": 2, "S": 3, "C": 8}  # of the trial; any other named size counts as 4
CONSTANTS = ("full", "constant", "iota")


@dataclass(frozen=True)
class Verified:
    """The worst error of a rule's rewrites, max|a − b| / max(1, max|b|) in float64, and where it is.

    Of rewrites that are alike (same attributes and types) one is run; `tried` counts those.
    """

    rule: str
    rewrites: int
    tried: int
    error: float
    where: str


def verify_rewrites(results: Iterable[RuleResult], seed: int = 0) -> tuple[Verified, ...]:
    """Run what each rewrite made, and the nodes it took, on the same random numbers. No weight is read."""
    found = []
    for result in results:
        if result.matches:
            trials = {_kind(m): m for m in result.matches}
            errors = [(rewrite_error(result.rule, m, seed), m) for m in trials.values()]
            worst, match = max(errors, key=lambda e: e[0])
            where = result.search.snapshot.graph.where(match.anchor)
            found.append(Verified(result.rule.name, len(result.matches), len(trials), worst, where))
    return tuple(found)


def _kind(match: Match) -> tuple[Any, ...]:
    types = tuple(None if v is None else v.type for v in match.operands)
    return match.pattern, attrs_text(match.attrs), types


def rewrite_error(rule: Rule, match: Match, seed: int = 0) -> float:
    """The error of one rewrite, see `Verified`; infinite where the results are not finite or not alike."""
    plain, fused = _two_graphs(rule, match)
    inputs = _draw(plain, seed)
    expected, actual = _run(plain, inputs), _run(fused, inputs)
    return max(_error(actual[name], array) for name, array in expected.items())


def _two_graphs(rule: Rule, match: Match) -> tuple[Graph, Graph]:
    """The nodes of a match, and what the rule puts there, over the same leaves."""
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    inside = set(match.nodes)
    with emitting(builder):
        for node in match.nodes:
            for v in node.inputs:
                if v.node not in inside and v not in moved:
                    moved[v] = _leaf(f"x{len(moved)}", v)
            operands = tuple(None if v is None else moved[v] for v in node.operands)
            moved.update(zip(node.outputs, builder.node(node.op, operands, node.attrs).outputs, strict=True))
        given = tuple(None if v is None else moved.get(v, v) for v in match.operands)
        emit: Callable[..., Any] = rule.emit or match.pattern.op
        made = emit(*given, **match.attrs)
    fused = made if isinstance(made, tuple) else (made,)
    return (
        _graph(builder, [moved[v] for v in match.outputs], moved),
        _graph(builder, list(fused), moved),
    )


def _graph(builder: GraphBuilder, outputs: list[Value], moved: Mapping[Value, Value]) -> Graph:
    leaves = dict.fromkeys(moved.values())
    inputs = {str(v.node.attrs["key"]): v for v in leaves if v.node.op is input_}
    states = [v for v in leaves if v.node.op is state]
    after = {v.node.attrs["key"]: v for v in states}
    for out in outputs:
        if out.type.state:
            after[out.node.inputs[0].node.attrs["key"]] = out
    kept = {f"y{i}": v for i, v in enumerate(outputs) if not v.type.state}
    carried = tuple(State(v.node.attrs["key"], v, after[v.node.attrs["key"]]) for v in states)
    graph = builder.finish("trial", inputs, kept, carried)
    return legalize(graph, ReferenceBackend().claims)


def _leaf(key: str, value: Value) -> Value:
    """A stand-in of the same type. Constants stay; packed weights count as f32, since any bytes are not."""
    t, node = value.type, value.node
    if node.op.name in CONSTANTS:
        made: Value = node.op(**node.attrs)
        return made
    if t.state:
        return state(key=key, dtype=t.dtype, shape=t.shape)
    leaf = param if node.op is param else input_
    return leaf(key=key, dtype=f32 if t.dtype.packed else t.dtype, shape=t.shape)


def _draw(graph: Graph, seed: int) -> dict[str, Array]:
    """An array per leaf: normal numbers for floats, 0 and 1 (beginning with 1) for all else, 0 alone where it
    looks up a table of one row."""
    rng = np.random.default_rng(seed)
    leaves = [n.outputs[0] for n in graph.nodes if n.op in (input_, param, state)]
    return {v.node.attrs["key"]: _array(v.type, rng) * (not looks_up_one_row(graph, v)) for v in leaves}


def looks_up_one_row(graph: Graph, value: Value) -> bool:
    """Whether a value is the ids of a look-up for which only 0 is right."""
    users = graph.users.get(value, ())
    return any(n.op is gather and n.inputs[1] is value and n.inputs[0].dim(0) == 1 for n in users)


def _array(t: Type, rng: np.random.Generator) -> Array:
    shape = bind_shape(t.shape, _sizes(t))
    if t.dtype.is_float:
        return rng.standard_normal(shape)
    ones = rng.integers(0, 2, shape)
    ones[(0,) * len(shape)] = 1
    return ones.astype(bool if t.dtype.kind == "bool" else np.int64)


def _sizes(*types: Type) -> dict[str, int]:
    found = {name: 4 for t in types for d in t.shape for name in names(d)}
    return {**found, **SIZES}


def _run(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs and states after, in float64."""
    params = {v: arrays[key] for key, v in graph.params.items()}
    inputs = {name: arrays[name] for name in graph.inputs}
    caches = {s.name: arrays[s.name].copy() for s in graph.states}
    sizes = _sizes(*(v.type for n in graph.nodes for v in n.outputs))
    with np.errstate(all="ignore"):
        results = Program(graph).run(params, inputs, caches, sizes)
    return {**results, **{f"state {name}": array for name, array in caches.items()}}


def _error(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    wide = expected.astype(np.float64)
    worst = np.abs(actual.astype(np.float64) - wide).max(initial=0.0)
    return float(worst / max(1.0, float(np.abs(wide).max(initial=0.0))))


def first_wrong(error_with: Callable[[int], float], total: int, tolerance: float) -> int | None:
    """The number of the first rewrite (from 1) after which the error is above the tolerance.

    `error_with(n)` is the error with the first n rewrites. Halves the range at each step; None where all
    rewrites together are within the tolerance.
    """
    if error_with(total) <= tolerance:
        return None
    good, bad = 0, total
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if error_with(middle) <= tolerance else (good, middle)
    return bad
