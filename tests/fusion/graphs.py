"""Small graphs for the tests of passes, and a way to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import Array, DType, f32, i32, to_numpy
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.weight_time import WeightView, hoist
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.leaves import input_, param
from rlxflow.profile.model import CompileProfile
from rlxflow.weights.source import MapWeights

Made = Value | Mapping[str, Value]


def graph_of(make: Callable[..., Made], shape: tuple[object, ...] = ("B", "S", 8), path: str = "") -> Graph:
    """The graph of `make(x)`, or of `make(x, index)` for the last token; `index` is an i32 [B] input."""
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=shape)  # type: ignore[arg-type]
        index = input_(key="index", dtype=i32, shape=shape[:1])  # type: ignore[arg-type]
        takes = make.__code__.co_argcount - len(make.__defaults__ or ())
        inputs = {"x": x, "index": index} if takes == 2 else {"x": x}
        with builder.scope(*([path] if path else [])):
            made = make(*inputs.values())
    outputs = {"y": made} if isinstance(made, Value) else made
    return verify(builder.finish("test", inputs, outputs))


def weight(key: str, *shape: int, dtype: DType = f32) -> Value:
    return param(key=key, dtype=dtype, shape=shape)


def arrays_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random weights for every param of a graph; packed ones are random bytes."""
    rng = np.random.default_rng(seed)
    found = {}
    for key, v in graph.params.items():
        shape = tuple(int(d) for d in v.shape if isinstance(d, int))
        found[key] = rng.standard_normal(shape).astype(to_numpy(v.dtype))
    return found


def run(
    graph: Graph, weights: Mapping[str, Array] | None = None, batch: int = 2, seq: int = 3, seed: int = 0
) -> dict[str, Array]:
    """The outputs on random inputs: first legalised and hoisted, so that any graph runs."""
    rng = np.random.default_rng(seed)
    sizes = {"B": batch, "S": seq}
    inputs = {}
    for name, v in graph.inputs.items():
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in v.shape)
        numbers = rng.integers(0, seq, shape) if v.dtype.kind == "int" else rng.standard_normal(shape)
        inputs[name] = numbers.astype(to_numpy(v.dtype))
    backend = ReferenceBackend()
    split = hoist(verify(legalize(graph, backend.claims)))
    view = WeightView(MapWeights(arrays_of(graph) if weights is None else weights), split.expressions)
    return backend.compile(verify(split.graph), view, CompileProfile())(inputs)
