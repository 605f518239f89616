"""Running a graph with NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from rlxflow.backends.base import CacheState, empty_state
from rlxflow.backends.inputs import InputCheck, checked_caches, no_output
from rlxflow.backends.reference.program import Program
from rlxflow.backends.rows import cut, token_spans
from rlxflow.dtypes import Array
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value


class ReferenceExecutable:
    """A graph with its weights, ready to run. See `Executable`."""

    def __init__(self, graph: Graph, params: dict[Value, Array]) -> None:
        self.graph = graph
        self._params = params
        self._check = InputCheck(graph)
        self._programs: dict[tuple[str, ...], Program] = {}
        self._program(tuple(graph.outputs))  # an op without a reference is reported now

    @property
    def kept(self) -> Counter[tuple[str, str]]:
        """Weights per dtype they are stored in and dtype they are widened to."""
        floats = {v: array for v, array in self._params.items() if v.dtype.is_float}
        return Counter((v.dtype.name, f"f{8 * array.itemsize}") for v, array in floats.items())

    def new_state(self, batch: int, capacity: int) -> CacheState:
        """Empty caches for `batch` sequences of up to `capacity` tokens."""
        return empty_state(self.graph, batch, capacity)

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        program = self._program(tuple(self.graph.outputs) if outputs is None else outputs)
        arrays, sizes = self._check(inputs)
        caches = checked_caches(self.graph, state, sizes)
        with np.errstate(all="ignore"):  # infinities and NaN follow the arithmetic, without warnings
            if program.independent:
                return self._run_rows(program, arrays, caches, sizes)
            return program.run(self._params, arrays, caches, sizes)

    def _program(self, outputs: tuple[str, ...]) -> Program:
        if outputs not in self._programs:
            for name in outputs:
                if name not in self.graph.outputs:
                    raise no_output(self.graph, name)
            self._programs[outputs] = Program(self.graph.select(outputs))
        return self._programs[outputs]

    def _run_rows(
        self,
        program: Program,
        inputs: Mapping[str, Array],
        caches: Mapping[str, Array],
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:
        """Each row alone, without its padding; padded positions of the results are zero.

        A row without any valid token is not run: its results are zero.
        """
        graph = program.graph
        results = {
            name: np.zeros(bind_shape(v.shape, sizes), program.result_type(name, self._params))
            for name, v in graph.outputs.items()
        }
        for row, span in enumerate(token_spans(program.validity, inputs, sizes["B"], sizes.get("S", 1))):
            if span.stop <= span.start:
                continue
            own = {name: cut(inputs[name], v.shape, row, span) for name, v in graph.inputs.items()}
            own_caches = {name: a[row : row + 1] for name, a in caches.items()}
            own_sizes = {**sizes, "B": 1, "S": span.stop - span.start}
            for name, result in program.run(self._params, own, own_caches, own_sizes).items():
                cut(results[name], graph.outputs[name].shape, row, span)[...] = result
        return results
