"""What every rule must do, as checks of one case: fire, keep the numbers, be undone; or refuse with a reason.

All leaves of the graphs are params, whole numbers too, so that a run in float64 is float64 throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import Array, DType, f32, i32, i64
from rlxflow.fusion.driver import RuleResult, fuse
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rules import all_rules
from rlxflow.fusion.simplify import remove_no_ops
from rlxflow.ir.builder import GraphBuilder, rebuild
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.text import parse_graph
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.leaves import param, state
from rlxflow.profile.model import CompileProfile
from rlxflow.weights.source import MapWeights

B, S, H = 2, 3, 8

Made = Value | tuple[Value, ...]
Arrays = Mapping[str, Array]


def p(key: str, *shape: int, dtype: DType = f32) -> Value:
    """A leaf; its numbers follow from its key."""
    return param(key=key, dtype=dtype, shape=shape)


def x(key: str = "x") -> Value:
    """An activation [B, S, H]."""
    return p(key, B, S, H)


def ids(key: str) -> Value:
    return p(key, B, S, dtype=i64)


def mask() -> Value:
    return p("mask", B, S, dtype=i64)


def lengths() -> tuple[Value, Value]:
    return p("past_len", B, dtype=i32), p("new_len", B, dtype=i32)


def cache(key: str, num_heads: int, head_dim: int) -> Value:
    return state(key=key, dtype=f32, shape=(B, num_heads, 6, head_dim))


def graph_of(make: Callable[[], Made]) -> Graph:
    """The graph of what `make` gives. States: each `cache` and the last version written of it."""
    builder = GraphBuilder()
    with emitting(builder):
        made = make()
    values = made if isinstance(made, tuple) else (made,)
    outputs = {f"y{i}": v for i, v in enumerate(values) if not v.type.state}
    states = [State(_origin(v).node.attrs["key"], _origin(v), v) for v in values if v.type.state]
    return verify(builder.finish("test", {}, outputs, tuple(states)))


def _origin(value: Value) -> Value:
    while value.node.op.name != "state":
        value = value.node.inputs[0]
    return value


def arrays_of(graph: Graph) -> dict[str, Array]:
    """Numbers for every param, float32 or integer, drawn from a stream that its key names."""
    return {key: _numbers(key, v) for key, v in graph.params.items()}


def _numbers(key: str, value: Value) -> Array:
    shape = tuple(int(d) for d in value.shape if isinstance(d, int))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little"))
    if key == "mask":
        return np.array([[1, 1, 1], [1, 0, 1]])
    if key in ("past_len", "new_len"):
        return np.array([2, 0] if key == "past_len" else [3, 2], np.int32)
    if value.dtype.kind == "int":
        return rng.integers(0, 4, shape)
    return rng.uniform(-1, 1, shape).astype(np.float32)


def run(graph: Graph, compute: type[np.floating[Any]]) -> list[Array]:
    """The outputs, and the caches after the call."""
    backend = ReferenceBackend(compute)
    plain = legalize(graph, backend.claims)
    executable = backend.compile(plain, MapWeights(arrays_of(plain)), CompileProfile())
    caches = executable.new_state(B, 6) if graph.states else None
    if caches is not None:
        for key, array in caches.arrays.items():
            array[...] = _cached(key, array.shape)
    outputs = list(executable({}, caches).values())
    return outputs + ([] if caches is None else [caches.arrays[s.name] for s in graph.states])


def _cached(key: str, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(len(key)).uniform(-1, 1, shape).astype(np.float32)


def difference(found: list[Array], expected: list[Array]) -> float:
    """max |found − expected| / max(1, max |expected|) over all arrays, which must have equal shapes."""
    assert [a.shape for a in found] == [a.shape for a in expected]
    assert all(np.isfinite(a).all() for a in found)
    return max(
        float(np.abs(a - e).max() / max(1.0, float(np.abs(e).max())))
        for a, e in zip(found, expected, strict=True)
    )


def fused(graph: Graph, tokens: int | None = 32, only: str = "") -> tuple[Graph, dict[str, RuleResult]]:
    """The graph after all rules, or after one of them, and what each did."""
    rules = [r for r in all_rules() if only in ("", r.name)]
    result, found = fuse(graph, rules, Facts(tokens))
    return verify(result), {r.rule.name: r for r in found}


def expand(graph: Graph) -> Graph:
    return rebuild(graph, lambda op: op.decompose_fn is not None)


@dataclass(frozen=True)
class Fires:
    """`make` holds `count` times the op `op`; `formula`, of the arrays by key, is what its outputs must be.

    A `written` graph spells the op differently, so expanding does not give it back.
    """

    label: str
    make: Callable[[], Made]
    op: str
    formula: Callable[[Arrays], Any] | None = None
    count: int = 1
    written: bool = False
    tokens: int | None = 32
    only: str = ""

    def __str__(self) -> str:
        return self.label

    def check(self) -> Graph:
        graph = graph_of(self.make)
        result, _ = fused(graph, self.tokens, self.only)
        assert result.count(self.op) == self.count, str(result)
        self._check_numbers(graph, result)
        assert fused(result, self.tokens, self.only)[0].digest == result.digest, "not idempotent"
        assert parse_graph(str(result)).digest == result.digest
        if not self.written:
            assert remove_no_ops(expand(result), []).digest == remove_no_ops(expand(graph), []).digest
        return result

    def _check_numbers(self, graph: Graph, result: Graph) -> None:
        # constants of a written graph are float32 in any run
        for compute, limit in ((np.float64, 1e-7 if self.written else 1e-10), (np.float32, 1e-5)):
            before, after = run(graph, compute), run(result, compute)
            assert difference(after, before) <= limit
            if self.formula is not None:
                wide = {
                    k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in arrays_of(graph).items()
                }
                made = self.formula(wide)
                assert difference(after, list(made) if isinstance(made, tuple) else [made]) <= limit


@dataclass(frozen=True)
class Refuses:
    """`make` almost holds the op of `rule`; `reason` is part of what is said about it."""

    label: str
    make: Callable[[], Made]
    rule: str
    op: str
    reason: str
    tokens: int | None = 32

    def __str__(self) -> str:
        return self.label

    def check(self) -> None:
        graph = graph_of(self.make)
        alone, results = fused(graph, self.tokens, self.rule)
        assert alone.count(self.op) == 0, str(alone)
        told = [str(m) for m in results[self.rule].misses] + [r.reason for r in results[self.rule].refusals]
        print(f"{self.rule}, {self.label}: {told}")
        assert any(self.reason in reason for reason in told), told
        together, _ = fused(graph, self.tokens)
        assert together.count(self.op) == 0
        assert difference(run(together, np.float64), run(graph, np.float64)) <= 1e-10


def caches_before(*names: tuple[str, int, int]) -> list[Array]:
    """The caches that `run` starts with: (key, number of heads, head_dim) each."""
    return [_cached(key, (B, heads, 6, dim)) for key, heads, dim in names]
