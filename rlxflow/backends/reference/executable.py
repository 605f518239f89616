"""Running a graph with NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.backends.reference.program import Program
from rlxflow.backends.reference.rows import cut, token_spans
from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import BackendError, InputError, nearest
from rlxflow.ir.dims import Sym, bind_shape, shape_text
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value


class ReferenceExecutable:
    """A graph with its weights, ready to run. See `Executable`."""

    def __init__(self, graph: Graph, params: dict[Value, Array]) -> None:
        self.graph = graph
        self._params = params
        self._programs: dict[tuple[str, ...], Program] = {}
        self._program(tuple(graph.outputs))  # an op without a reference is reported now

    def new_state(self, batch: int, capacity: int) -> CacheState:
        """Empty caches for `batch` sequences of up to `capacity` tokens."""
        arrays = {}
        for state in self.graph.states:
            shape = bind_shape(state.before.shape, {"B": batch, "C": capacity})
            arrays[state.name] = np.zeros(shape, to_numpy(state.before.dtype))
        return CacheState(arrays, np.zeros(batch, np.int32), capacity)

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        program = self._program(tuple(self.graph.outputs) if outputs is None else outputs)
        sizes = self._sizes(inputs)
        if self.graph.states and state is None:
            hint = "pass state=executable.new_state(...)"
            raise BackendError(
                "this program needs a cache state", code="RLX-B002", where=self.graph.name, hint=hint
            )
        caches = {} if state is None else state.arrays
        if program.independent:
            return self._run_rows(program, inputs, caches, sizes)
        return program.run(self._params, inputs, caches, sizes)

    def _program(self, outputs: tuple[str, ...]) -> Program:
        if outputs not in self._programs:
            for name in outputs:
                if name not in self.graph.outputs:
                    hint = nearest(name, self.graph.outputs) or f"outputs: {', '.join(self.graph.outputs)}"
                    raise InputError(f"no output {name!r}", code="RLX-R005", where=self.graph.name, hint=hint)
            self._programs[outputs] = Program(self.graph.select(outputs))
        return self._programs[outputs]

    def _run_rows(
        self,
        program: Program,
        inputs: Mapping[str, Array],
        caches: Mapping[str, Array],
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:
        """Each row alone, without its padding; padded positions of the results are zero."""
        graph = program.graph
        results = {
            name: np.zeros(bind_shape(v.shape, sizes), program.result_type(name, self._params))
            for name, v in graph.outputs.items()
        }
        for row, span in enumerate(token_spans(graph, inputs, sizes["B"], sizes.get("S", 1))):
            if span.stop <= span.start:
                continue
            own = {name: cut(inputs[name], v.shape, row, span) for name, v in graph.inputs.items()}
            own_caches = {name: a[row : row + 1] for name, a in caches.items()}
            own_sizes = {**sizes, "B": 1, "S": span.stop - span.start}
            for name, result in program.run(self._params, own, own_caches, own_sizes).items():
                cut(results[name], graph.outputs[name].shape, row, span)[...] = result
        return results

    def _sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """The named sizes, read off the inputs' shapes; raises `InputError` where they do not fit."""
        for name in inputs:
            if name not in self.graph.inputs:
                hint = nearest(name, self.graph.inputs) or f"inputs: {', '.join(self.graph.inputs)}"
                raise InputError(f"no input {name!r}", code="RLX-R006", where=self.graph.name, hint=hint)
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
