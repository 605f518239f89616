"""One case of one op: operands by symbolic shape, attributes, and a formula that the op must agree with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.base import CacheState
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dtypes import Array, DType, bool_, f64, i32, i64, to_numpy
from rlxflow.fusion.legalize import legalize
from rlxflow.ir.attrs import bind_attrs
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import Shape, bind_shape, shape
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import OPS, emitting
from rlxflow.ir.values import Value
from rlxflow.ops.leaves import input_, param, state

BSH = ("B", "S", "H")
SIZES = {"B": 2, "S": 5, "T": 7, "H": 6, "N": 3, "D": 4, "C": 9, "K": 8}


@dataclass(frozen=True)
class Operand:
    """A random operand. `dtype` None means the float type under test."""

    shape: tuple[int | str, ...]
    dtype: DType | None = None
    low: float = -2.0
    high: float = 2.0
    role: str = "input"
    fill: Callable[[tuple[int, ...]], Any] | None = None

    def draw(self, rng: np.random.Generator, sizes: Mapping[str, int], wide: DType) -> Array:
        size = bind_shape(shape(self.shape), sizes)
        kind = to_numpy(self.dtype or wide)
        if self.fill is not None:
            return np.asarray(self.fill(size), kind).reshape(size)
        if kind.kind in "iu":
            return rng.integers(int(self.low), int(self.high), size).astype(kind)
        if kind.kind == "b":
            return rng.random(size) < 0.5
        return rng.uniform(self.low, self.high, size).astype(np.float32).astype(kind)


def floats(*dims: int | str, **more: Any) -> Operand:
    return Operand(dims, **more)


def weight(*dims: int | str, **more: Any) -> Operand:
    return Operand(dims, role="param", **more)


def ints(*dims: int | str, below: int = 5, dtype: DType = i64, **more: Any) -> Operand:
    return Operand(dims, dtype=dtype, low=0, high=below, **more)


def lengths(*values: int) -> Operand:
    return Operand(("B",), dtype=i32, fill=lambda _: values)


def flags(*dims: int | str, **more: Any) -> Operand:
    return Operand(dims, dtype=bool_, **more)


@dataclass(frozen=True)
class Case:
    """`formula(*arrays in float64, **attributes)` gives what the op must give."""

    op: str
    operands: tuple[Operand | None, ...]
    formula: Callable[..., Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.op}-{self.name}" if self.name else self.op

    @property
    def all_sizes(self) -> dict[str, int]:
        return {**SIZES, **self.sizes}

    def draw(self, wide: DType, seed: int = 0) -> list[Array | None]:
        rng = np.random.default_rng(seed)
        return [None if o is None else o.draw(rng, self.all_sizes, wide) for o in self.operands]

    def emit(
        self, shapes: list[Shape | None], wide: DType, bound: bool = True
    ) -> tuple[GraphBuilder, tuple[Value, ...], list[Value]]:
        """The op applied to leaves of these shapes: (builder, its outputs, the leaves)."""
        builder, leaves = GraphBuilder(), []
        with emitting(builder):
            values: list[Value | None] = []
            for i, (operand, dims) in enumerate(zip(self.operands, shapes, strict=True)):
                if operand is None or dims is None:
                    values.append(None)
                    continue
                make = {"input": input_, "param": param, "state": state}[operand.role]
                values.append(make(key=f"v{i}", dtype=operand.dtype or wide, shape=dims))
                leaves.append(values[-1])
            attrs = bind_attrs(self.attrs, self.all_sizes) if bound else self.attrs
            result: Any = OPS[self.op](*values, **attrs)
        return builder, result if isinstance(result, tuple) else (result,), leaves

    def graph(self, wide: DType) -> Graph:
        """A graph of concrete sizes around the op."""
        shapes = [None if o is None else bind_shape(shape(o.shape), self.all_sizes) for o in self.operands]
        builder, outputs, leaves = self.emit(shapes, wide)
        inputs = {v.node.attrs["key"]: v for v in leaves if v.node.op.name == "input"}
        written = [v for v in outputs if v.type.state]
        states = tuple(
            State(v.node.attrs["key"], v, written[0] if written else v) for v in leaves if v.type.state
        )
        return builder.finish(
            self.id, inputs, {f"y{i}": v for i, v in enumerate(outputs) if v not in written}, states
        )

    def run(self, arrays: list[Array | None], wide: DType) -> list[Array]:
        """The op's results from the reference backend, and each state that it writes."""
        return run(self.graph(wide), {f"v{i}": a for i, a in enumerate(arrays) if a is not None}, wide)

    def expected(self, arrays: list[Array | None]) -> list[Array]:
        wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
        result = self.formula(*wide, **bind_attrs(self.attrs, self.all_sizes))
        return [np.asarray(r) for r in (result if isinstance(result, tuple) else (result,))]


def run(graph: Graph, arrays: Mapping[str, Array], wide: DType) -> list[Array]:
    backend = ReferenceBackend(np.float64 if wide == f64 else np.float32)
    plain = legalize(graph, backend.claims)
    executable = ReferenceExecutable(plain, {v: arrays[k] for k, v in plain.params.items()})
    caches = {s.name: arrays[s.name].copy() for s in plain.states}
    held = CacheState(caches, np.zeros(0, np.int32), 0) if caches else None
    results = executable({k: arrays[k] for k in plain.inputs}, held)
    return [*results.values(), *(caches[s.name] for s in plain.states if s.before is not s.after)]
