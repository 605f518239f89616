"""Running a graph with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.backends.reference.rows import batch_independent, cut, token_spans
from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import BackendError, InputError
from rlxflow.ir.attrs import bind_attrs
from rlxflow.ir.dims import Sym, bind_shape, shape_text
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

Step = tuple[Callable[..., Any], Node, tuple[Value, ...]]  # what to run, for which node, what is free after


class ReferenceExecutable:
    """A graph with its weights, ready to run. See `Executable`."""

    def __init__(self, graph: Graph, params: dict[Value, Array]) -> None:
        self.graph = graph
        self._params = params
        self._independent = batch_independent(graph)
        self._steps = _plan(graph)

    def new_state(self, batch: int, capacity: int) -> CacheState:
        """Empty caches for `batch` sequences of up to `capacity` tokens."""
        arrays = {}
        for state in self.graph.states:
            shape = bind_shape(state.before.shape, {"B": batch, "C": capacity})
            arrays[state.name] = np.zeros(shape, to_numpy(state.before.dtype))
        return CacheState(arrays, np.zeros(batch, np.int32), capacity)

    def __call__(self, inputs: Mapping[str, Array], state: CacheState | None = None) -> dict[str, Array]:
        sizes = self._sizes(inputs)
        if self.graph.states and state is None:
            raise BackendError(
                "this program needs a cache state",
                code="RLX-B002",
                where=self.graph.name,
                hint="pass state=executable.new_state(...)",
            )
        arrays = {} if state is None else state.arrays
        if not self._independent or "B" not in sizes:
            return self._run(inputs, arrays, sizes)
        return self._run_rows(inputs, arrays, sizes)

    def _run_rows(
        self, inputs: Mapping[str, Array], arrays: Mapping[str, Array], sizes: dict[str, int]
    ) -> dict[str, Array]:
        """Each row alone, without its padding; padded positions of the results are zero."""
        values = self.graph.outputs
        results: dict[str, Array] = {}
        spans = token_spans(self.graph, inputs, sizes["B"], sizes.get("S", 1))
        for row, span in enumerate(spans):
            if span.stop <= span.start:
                continue
            own = {
                n: cut(a, self.graph.inputs[n].shape, row, span)
                for n, a in inputs.items()
                if n in self.graph.inputs
            }
            caches = {name: a[row : row + 1] for name, a in arrays.items()}
            for name, result in self._run(
                own, caches, {**sizes, "B": 1, "S": span.stop - span.start}
            ).items():
                if name not in results:
                    results[name] = np.zeros(bind_shape(values[name].shape, {**sizes, "C": 0}), result.dtype)
                cut(results[name], values[name].shape, row, span)[...] = result
        for name, value in values.items():
            if name not in results:
                results[name] = np.zeros(bind_shape(value.shape, sizes), to_numpy(value.dtype))
        return results

    def _run(
        self, inputs: Mapping[str, Array], arrays: Mapping[str, Array], sizes: dict[str, int]
    ) -> dict[str, Array]:
        values: dict[Value, Array] = dict(self._params)
        values.update((v, inputs[name]) for name, v in self.graph.inputs.items())
        values.update((s.before, arrays[s.name]) for s in self.graph.states)
        for fn, node, free in self._steps:
            operands = [None if v is None else values[v] for v in node.operands]
            result = fn(*operands, **bind_attrs(node.attrs, sizes))
            if len(node.outputs) == 1:
                values[node.outputs[0]] = result
            else:
                values.update(zip(node.outputs, result, strict=True))
            for value in free:
                del values[value]
        return {name: np.array(values[v]) for name, v in self.graph.outputs.items()}

    def _sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """The named sizes, read off the inputs' shapes; raises `InputError` where they do not fit."""
        sizes: dict[str, int] = {}
        for name, value in self.graph.inputs.items():
            if name not in inputs:
                raise InputError(
                    f"input {name!r} is missing", code="RLX-R002", hint=f"pass {name}={value.type}"
                )
            array = inputs[name]
            if array.ndim != value.rank or array.dtype != to_numpy(value.dtype):
                got = f"{array.dtype}{list(array.shape)}"
                raise InputError(f"input {name!r} is {got}", code="RLX-R003", hint=f"it takes {value.type}")
            for declared, size in zip(value.shape, array.shape, strict=True):
                known = sizes.setdefault(str(declared), size) if isinstance(declared, Sym) else declared
                if known != size:
                    what = f"{declared} = {size} in {shape_text(value.shape)}, but {known} elsewhere"
                    raise InputError(
                        f"input {name!r}: {what}", code="RLX-R004", hint="make the inputs' sizes agree"
                    )
        return sizes


def _plan(graph: Graph) -> list[Step]:
    """The nodes to run, each with the values that nobody reads after it."""
    kept = {*graph.outputs.values(), *graph.inputs.values(), *graph.params.values()}
    kept |= {v for s in graph.states for v in (s.before, s.after)}
    last: dict[Value, Node] = {v: node for node in graph.nodes for v in (*node.outputs, *node.inputs)}
    free: dict[Node, list[Value]] = {}
    for value, node in last.items():
        if value not in kept:
            free.setdefault(node, []).append(value)
    steps: list[Step] = []
    for node in graph.nodes:
        if node.op.name in ("input", "param", "state"):
            continue
        if node.op.reference_fn is None:
            raise BackendError(
                f"no reference for op {node.op.name!r}",
                code="RLX-B003",
                where=graph.where(node),
                hint="give it one",
            )
        steps.append((node.op.reference_fn, node, tuple(free.get(node, ()))))
    return steps
