"""The steps of a graph: which function runs when, and what memory is free after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from rlxflow.backends.rows import batch_independent, validity_inputs
from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import BackendError
from rlxflow.ir.attrs import bind_attrs
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

LEAVES = ("input", "param", "state")
Step = tuple[Callable[..., Any], Node, tuple[Value, ...]]  # function, its node, values that die after it


class Program:
    """A graph for one set of outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._steps = _plan(graph)

    @cached_property
    def independent(self) -> bool:
        """Whether each sequence of a batch may run alone."""
        return batch_independent(self.graph)

    @cached_property
    def validity(self) -> tuple[str, ...]:
        """The inputs that say which tokens may be left out."""
        return validity_inputs(self.graph)

    def result_type(self, name: str, params: Mapping[Value, Array]) -> np.dtype[Any]:
        """The NumPy type of an output: what the graph says, or f64 when the weights were widened to it."""
        wide = any(a.dtype == np.float64 for a in params.values())
        declared = self.graph.outputs[name].dtype
        return np.dtype(np.float64) if wide and declared.is_float else to_numpy(declared)

    def run(
        self,
        params: Mapping[Value, Array],
        inputs: Mapping[str, Array],
        caches: Mapping[str, Array],
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:
        """One pass over the steps; caches are written in place."""
        values: dict[Value, Array] = dict(params)
        values.update((v, inputs[name]) for name, v in self.graph.inputs.items())
        values.update((s.before, caches[s.name]) for s in self.graph.states)
        for fn, node, dead in self._steps:
            operands = [None if v is None else values[v] for v in node.operands]
            result = fn(*operands, **bind_attrs(node.attrs, sizes))
            if len(node.outputs) == 1:
                values[node.outputs[0]] = result
            else:
                values.update(zip(node.outputs, result, strict=True))
            for value in dead:
                del values[value]
        return {name: np.array(values[v]) for name, v in self.graph.outputs.items()}


def _plan(graph: Graph) -> list[Step]:
    kept = {*graph.outputs.values(), *graph.inputs.values(), *graph.params.values()}
    kept |= {v for s in graph.states for v in (s.before, s.after)}
    last: dict[Value, Node] = {v: node for node in graph.nodes for v in (*node.outputs, *node.inputs)}
    dead: dict[Node, list[Value]] = {}
    for value, node in last.items():
        if value not in kept:
            dead.setdefault(node, []).append(value)
    steps: list[Step] = []
    for node in graph.nodes:
        if node.op.name in LEAVES:
            continue
        if node.op.reference_fn is None:
            hint = "give the op a reference or a decompose"
            where = graph.where(node)
            raise BackendError(
                f"op {node.op.name!r} has no reference", code="RLX-B003", where=where, hint=hint
            )
        steps.append((node.op.reference_fn, node, tuple(dead.get(node, ()))))
    return steps
